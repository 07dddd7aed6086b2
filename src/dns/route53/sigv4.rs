//! AWS Signature Version 4, by AWS's own library.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningError, SigningSettings, sign};
use aws_sigv4::sign::v4::{SigningParams, signing_params::BuildError};

pub(super) struct Signer<'a> {
    pub credentials: Credentials,
    pub region: &'a str,
    pub service: &'a str,
    pub time: SystemTime,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SignerError {
    #[error(transparent)]
    Params(#[from] BuildError),
    #[error(transparent)]
    Request(#[from] SigningError),
}

impl Signer<'_> {
    /// The headers to add to the request, whose `Host` header must be that of `url`.
    pub(super) fn headers(
        &self,
        method: &str,
        url: &str,
        body: &str,
    ) -> Result<Vec<(String, String)>, SignerError> {
        let identity = self.credentials.clone().into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(self.region)
            .name(self.service)
            .time(self.time)
            .settings(SigningSettings::default())
            .build()?
            .into();
        let body = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new(method, url, std::iter::empty(), body)?;
        let (instructions, _) = sign(request, &params)?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_awss_test_suite() {
        let time = chrono::DateTime::parse_from_rfc3339("2015-08-30T12:36:00Z").unwrap().into();
        let headers = |token: Option<&str>, method: &str, query: &str| {
            let key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
            let credentials = Credentials::new("AKIDEXAMPLE", key, token.map(str::to_owned), None, "test");
            let signer = Signer { credentials, region: "us-east-1", service: "service", time };
            signer.headers(method, &format!("https://example.amazonaws.com/{query}"), "").unwrap()
        };
        let ends_with = |headers: &[(String, String)], signature: &str| {
            headers.iter().any(|(name, value)| name == "authorization" && value.ends_with(signature))
        };
        // get-vanilla-query-order-key-case
        let signed = headers(None, "GET", "?Param2=value2&Param1=value1");
        assert!(ends_with(&signed, "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"));
        // post-sts-header-before
        let token = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";
        let signed = headers(Some(token), "POST", "");
        assert!(ends_with(&signed, "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"));
        assert!(signed.iter().any(|(name, value)| name == "x-amz-security-token" && value == token));
    }
}
