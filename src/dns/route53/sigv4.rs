//! AWS Signature Version 4 for one request with its body. The crate `aws-sigv4` would add the runtime of AWS's SDK.

use chrono::{DateTime, Utc};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};

#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub access_key_id: SecretString,
    pub secret_access_key: SecretString,
    pub session_token: Option<SecretString>,
}

#[derive(Debug)]
pub(super) struct UnsignedRequest<'a> {
    pub method: &'a str,
    /// With the port, if it is not the scheme's default.
    pub host: &'a str,
    /// Without characters that need encoding.
    pub path: &'a str,
    /// Encoded and sorted by name.
    pub query: &'a str,
    pub body: &'a [u8],
}

#[derive(Debug)]
pub(super) struct SigningScope<'a> {
    pub region: &'a str,
    pub service: &'a str,
    pub time: DateTime<Utc>,
}

/// The headers to add to the request, whose `Host` header must be `host`.
pub(super) fn headers(
    request: &UnsignedRequest<'_>,
    scope: &SigningScope<'_>,
    credentials: &Credentials,
) -> Vec<(&'static str, String)> {
    let timestamp = scope.time.format("%Y%m%dT%H%M%SZ").to_string();
    let day = scope.time.format("%Y%m%d").to_string();
    let token = credentials.session_token.as_ref().map(ExposeSecret::expose_secret);
    let token_line = token.map(|token| format!("x-amz-security-token:{token}\n")).unwrap_or_default();
    let names = if token.is_some() { "host;x-amz-date;x-amz-security-token" } else { "host;x-amz-date" };
    let canonical = format!(
        "{}\n{}\n{}\nhost:{}\nx-amz-date:{timestamp}\n{token_line}\n{names}\n{}",
        request.method,
        request.path,
        request.query,
        request.host,
        hex(digest::digest(&digest::SHA256, request.body).as_ref()),
    );
    let credential = format!("{day}/{}/{}/aws4_request", scope.region, scope.service);
    let canonical_hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("AWS4-HMAC-SHA256\n{timestamp}\n{credential}\n{canonical_hash}");
    let seed = format!("AWS4{}", credentials.secret_access_key.expose_secret());
    let key = [&*day, scope.region, scope.service, "aws4_request"]
        .iter()
        .fold(seed.into_bytes(), |key, part| mac(&key, part.as_bytes()));
    let signature = hex(&mac(&key, to_sign.as_bytes()));
    let id = credentials.access_key_id.expose_secret();
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={id}/{credential}, SignedHeaders={names}, Signature={signature}"
    );
    let mut headers = vec![("x-amz-date", timestamp), ("authorization", authorization)];
    headers.extend(token.map(|token| ("x-amz-security-token", token.to_owned())));
    headers
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The credentials, time, region and service of AWS's published `aws-sig-v4-test-suite`.
    fn signature(method: &str, query: &str, token: Option<&str>) -> String {
        let credentials = Credentials {
            access_key_id: SecretString::from("AKIDEXAMPLE"),
            secret_access_key: SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
            session_token: token.map(SecretString::from),
        };
        let time = "2015-08-30T12:36:00Z".parse().unwrap();
        let scope = SigningScope { region: "us-east-1", service: "service", time };
        let request = UnsignedRequest { method, host: "example.amazonaws.com", path: "/", query, body: b"" };
        let headers = headers(&request, &scope, &credentials);
        let authorization = headers.iter().find(|(name, _)| *name == "authorization").unwrap().1.clone();
        authorization.rsplit_once("Signature=").unwrap().1.to_owned()
    }

    #[test]
    fn the_signatures_are_those_of_awss_test_suite() {
        // get-vanilla, get-vanilla-query-order-key-case, post-vanilla
        assert_eq!(
            signature("GET", "", None),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
        assert_eq!(
            signature("GET", "Param1=value1&Param2=value2", None),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
        );
        assert_eq!(
            signature("POST", "", None),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn a_session_token_is_signed() {
        // post-sts-header-before
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        assert_eq!(
            signature("POST", "", Some(token)),
            "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
        );
    }
}
