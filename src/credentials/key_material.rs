//! Keys and tokens of the jwt plugin, and certificates of mtls-auth.

use data_encoding::BASE64URL_NOPAD;
use pkcs8::der::{Decode, Encode};
use ring::{hmac, signature};
use serde_json::Value;

#[derive(Debug)]
pub(super) struct JwtToken<'a> {
    /// Header and claims as they are in the token.
    signed: &'a str,
    signature: Vec<u8>,
    pub(super) algorithm: String,
    claims: Value,
}

impl<'a> JwtToken<'a> {
    /// `None` where the text is not a token.
    pub(super) fn parse(text: &'a str) -> Option<JwtToken<'a>> {
        let (signed, signature) = text.trim().rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json =
            |part: &str| serde_json::from_slice::<Value>(&BASE64URL_NOPAD.decode(part.as_bytes()).ok()?).ok();
        let algorithm = json(header)?.get("alg")?.as_str()?.to_owned();
        Some(JwtToken {
            signed,
            signature: BASE64URL_NOPAD.decode(signature.as_bytes()).ok()?,
            algorithm,
            claims: json(claims)?,
        })
    }

    /// The credential's key, unless the plugin is configured otherwise.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// The first of these claims for which Kong refuses the token; `now` is in seconds since 1970.
    pub(super) fn refused_claim<'c>(&self, claims: &[&'c str], now: f64) -> Option<&'c str> {
        let is_good = |claim: &str| match (claim, self.claims.get(claim).and_then(Value::as_f64)) {
            ("exp", Some(end)) => end > now,
            ("nbf", Some(start)) => start <= now,
            (_, seconds) => seconds.is_some(),
        };
        claims.iter().copied().find(|claim| !is_good(claim))
    }

    /// Whether the token expires, and by then; in seconds since 1970.
    pub(super) fn expires_by(&self, latest: f64) -> bool {
        self.claims.get("exp").and_then(Value::as_f64).is_some_and(|end| end <= latest)
    }

    /// `None` for an algorithm without a shared secret.
    pub(super) fn is_signed_with_secret(&self, secret: &[u8]) -> Option<bool> {
        let algorithm = match self.algorithm.as_str() {
            "HS256" => hmac::HMAC_SHA256,
            "HS384" => hmac::HMAC_SHA384,
            "HS512" => hmac::HMAC_SHA512,
            _ => return None,
        };
        let key = hmac::Key::new(algorithm, secret);
        Some(hmac::verify(&key, self.signed.as_bytes(), &self.signature).is_ok())
    }

    /// Whether it is signed with the private key of this public key in PEM; `None` where the key or the algorithm is
    /// unknown.
    pub(super) fn is_signed_with_key(&self, public: &str) -> Option<bool> {
        let algorithm: &dyn signature::VerificationAlgorithm = match self.algorithm.as_str() {
            "RS256" => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
            "ES256" => &signature::ECDSA_P256_SHA256_FIXED,
            "ES384" => &signature::ECDSA_P384_SHA384_FIXED,
            _ => return None,
        };
        let key = signature::UnparsedPublicKey::new(algorithm, public_key(public)?);
        Some(key.verify(self.signed.as_bytes(), &self.signature).is_ok())
    }
}

/// Whether the given key in PEM is this public key or its private key; `None` where one of them cannot be read.
pub(super) fn is_key_of(given: &str, public: &str) -> Option<bool> {
    let given = public_key(given).or_else(|| public_of_private(given))?;
    Some(super::secret::is_equal(&given, &public_key(public)?))
}

/// The bits of a public key: of an RSA key its modulus and exponent, of a key on a curve its point.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let (label, der) = decoded(pem)?;
    match label.as_str() {
        "PUBLIC KEY" => {
            let info = spki::SubjectPublicKeyInfoRef::from_der(&der).ok()?;
            info.subject_public_key.as_bytes().map(<[u8]>::to_vec)
        }
        "RSA PUBLIC KEY" => Some(der),
        "CERTIFICATE" => {
            let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
            Some(certificate.public_key().subject_public_key.data.to_vec())
        }
        _ => None,
    }
}

fn public_of_private(pem: &str) -> Option<Vec<u8>> {
    let (label, der) = decoded(pem)?;
    match label.as_str() {
        "RSA PRIVATE KEY" => public_of_rsa(&der),
        "EC PRIVATE KEY" => public_of_curve(&der),
        "PRIVATE KEY" => {
            let info = pkcs8::PrivateKeyInfo::from_der(&der).ok()?;
            public_of_rsa(info.private_key).or_else(|| public_of_curve(info.private_key))
        }
        _ => None,
    }
}

fn public_of_rsa(der: &[u8]) -> Option<Vec<u8>> {
    pkcs1::RsaPrivateKey::from_der(der).ok()?.public_key().to_der().ok()
}

/// The public point in the private key of a curve, which OpenSSL always writes.
fn public_of_curve(der: &[u8]) -> Option<Vec<u8>> {
    sec1::EcPrivateKey::from_der(der).ok()?.public_key.map(<[u8]>::to_vec)
}

/// The names by which mtls-auth finds a certificate: its alternative names and its common name. `None` where the text is
/// not a certificate.
pub(super) fn names_of_certificate(pem: &str) -> Option<Vec<String>> {
    use x509_parser::extensions::GeneralName;
    let der = certificate(pem)?;
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).ok()?;
    let mut names: Vec<String> = Vec::new();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        names.extend(alternatives.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
                Some((*name).to_owned())
            }
            _ => None,
        }));
    }
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    names.extend(common.map(str::to_owned));
    Some(names)
}

/// `None` where one of the certificates cannot be read.
pub(super) fn is_signed_by(pem: &str, authority: &str) -> Option<bool> {
    let (own, other) = (certificate(pem)?, certificate(authority)?);
    let (_, own) = x509_parser::parse_x509_certificate(&own).ok()?;
    let (_, other) = x509_parser::parse_x509_certificate(&other).ok()?;
    Some(own.verify_signature(Some(other.public_key())).is_ok())
}

fn certificate(pem: &str) -> Option<Vec<u8>> {
    let (label, der) = decoded(pem)?;
    (label == "CERTIFICATE").then_some(der)
}

/// Label and content of a PEM text.
fn decoded(pem: &str) -> Option<(String, Vec<u8>)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.trim().as_bytes()).ok()?;
    Some((pem.label, pem.contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example token of RFC 7519's predecessor on jwt.io: {"alg":"HS256"} and the secret "your-256-bit-secret".
    const EXAMPLE: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";

    #[test]
    fn a_token_is_signed_with_its_secret_and_no_other() {
        let token = JwtToken::parse(EXAMPLE).unwrap();
        assert_eq!(token.algorithm, "HS256");
        assert_eq!(token.issuer(), None);
        assert_eq!(token.is_signed_with_secret(b"your-256-bit-secret"), Some(true));
        assert_eq!(token.is_signed_with_secret(b"your-256-bit-secrets"), Some(false));
        assert!(JwtToken::parse("a.b.c").is_none());
        assert!(JwtToken::parse("plain secret").is_none());
    }

    #[test]
    fn a_claim_is_refused_when_its_time_is_over_or_to_come_or_missing() {
        let token = |claims: &str| {
            let claims = BASE64URL_NOPAD.encode(claims.as_bytes());
            let text = format!("{}.{claims}.c2ln", BASE64URL_NOPAD.encode(br#"{"alg":"HS256"}"#));
            JwtToken::parse(&text).unwrap().refused_claim(&["exp", "nbf"], 1000.0).map(str::to_owned)
        };
        assert_eq!(token(r#"{"exp": 1001, "nbf": 1000}"#), None);
        assert_eq!(token(r#"{"exp": 1000, "nbf": 1000}"#).as_deref(), Some("exp"));
        assert_eq!(token(r#"{"exp": 1001, "nbf": 1001}"#).as_deref(), Some("nbf"));
        assert_eq!(token(r#"{"nbf": 1000}"#).as_deref(), Some("exp"));
        assert_eq!(token(r#"{"exp": "2099", "nbf": 1000}"#).as_deref(), Some("exp"), "Kong takes numbers");
    }

    #[test]
    fn a_certificate_has_names_and_an_issuer() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["client.example.com".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Client One");
        let own = params.self_signed(&key).unwrap().pem();
        assert_eq!(names_of_certificate(&own).unwrap(), ["client.example.com", "Client One"]);
        assert_eq!(is_signed_by(&own, &own), Some(true));
        let other = rcgen::generate_simple_self_signed(vec!["x".to_owned()]).unwrap().cert.pem();
        assert_eq!(is_signed_by(&own, &other), Some(false));
        assert_eq!(names_of_certificate("client.example.com"), None);
    }

    #[test]
    fn a_private_key_belongs_to_its_public_key_in_every_form() {
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let public = key.public_key_pem();
        assert_eq!(is_key_of(&key.serialize_pem(), &public), Some(true));
        assert_eq!(is_key_of(&public, &public), Some(true));
        assert_eq!(is_key_of(&other.serialize_pem(), &public), Some(false));
        assert_eq!(is_key_of("no key", &public), None);
        assert_eq!(is_key_of(&public, "no key"), None);
    }
}
