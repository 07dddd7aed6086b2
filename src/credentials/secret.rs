//! Compares secrets with stored ones by Kong's rules (docs/kong-data-model.md, section 6), in constant time.

use data_encoding::{BASE64_NOPAD, HEXLOWER};
use ring::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use subtle::ConstantTimeEq;

/// The only parameters of a PBKDF2 hash that Kong accepts: it compares the whole text, and writes these.
const PBKDF2: &str = "$pbkdf2-sha512$i=10000,l=32$";

/// First characters of a value that Enterprise's keyring encrypted.
const CIPHER: &str = "$ke$";

/// The only kind of bcrypt hash that Kong knows as one; any other text is a plain token.
const BCRYPT: &str = "$2b$";

/// The number of hexadecimal digits by which Enterprise finds a row of whose secret it stores only a hash or cipher text.
const IDENT_DIGITS: usize = 5;

pub(super) fn is_equal(given: &[u8], stored: &[u8]) -> bool {
    given.ct_eq(stored).into()
}

pub(super) fn is_encrypted(stored: &str) -> bool {
    stored.starts_with(CIPHER) || stored.get(36..).is_some_and(|rest| rest.starts_with(":$ke$"))
}

/// How a stored password fits a given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PasswordMatch {
    None,
    /// By the hash that every Kong accepts.
    Sha1,
    /// By the hash that only a Kong in FIPS mode writes and accepts.
    Sha256,
}

/// The stored password is the lower-case hexadecimal hash of password and consumer id.
pub(super) fn basic_auth(password: &str, consumer: &str, stored: &str) -> PasswordMatch {
    let salted = format!("{password}{consumer}");
    let is_hash = |algorithm| is_equal(hex(algorithm, &salted).as_bytes(), stored.as_bytes());
    if is_hash(&SHA1_FOR_LEGACY_USE_ONLY) {
        PasswordMatch::Sha1
    } else if is_hash(&SHA256) {
        PasswordMatch::Sha256
    } else {
        PasswordMatch::None
    }
}

fn hex(algorithm: &'static Algorithm, text: &str) -> String {
    HEXLOWER.encode(digest(algorithm, text.as_bytes()).as_ref())
}

/// The digits by which Enterprise finds a secret: of its SHA-1, or of its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Idents {
    pub(super) sha1: String,
    pub(super) sha256: String,
}

impl Idents {
    pub(super) fn of(secret: &str) -> Idents {
        let first = |algorithm| hex(algorithm, secret).chars().take(IDENT_DIGITS).collect();
        Idents { sha1: first(&SHA1_FOR_LEGACY_USE_ONLY), sha256: first(&SHA256) }
    }
}

/// `None` where Kong accepts the stored text for no secret at all.
pub(super) fn pbkdf2(secret: &str, stored: &str) -> Option<bool> {
    let (salt, _) = stored.strip_prefix(PBKDF2)?.split_once('$')?;
    let raw = BASE64_NOPAD.decode(salt.as_bytes()).ok()?;
    let rounds = std::num::NonZeroU32::new(10_000)?;
    let mut hash = [0_u8; 32];
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA512, rounds, &raw, secret.as_bytes(), &mut hash);
    let whole = format!("{PBKDF2}{}${}", BASE64_NOPAD.encode(&raw), BASE64_NOPAD.encode(&hash));
    Some(is_equal(whole.as_bytes(), stored.as_bytes()))
}

pub(super) fn is_pbkdf2(stored: &str) -> bool {
    stored.starts_with(PBKDF2)
}

pub(super) fn is_bcrypt(stored: &str) -> bool {
    stored.starts_with(BCRYPT)
}

/// `None` where the stored text is not a bcrypt hash. Takes about thirty milliseconds.
pub(super) fn bcrypt(secret: &str, stored: &str) -> Option<bool> {
    bcrypt::verify(secret, stored).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_salted_with_its_consumer() {
        // From the public documentation of Kong (docs/kong-data-model.md, section 6).
        let consumer = "6375b5fd-9c95-4822-b2dd-80ffbccb7ec9";
        let stored = "da61c0083b6d19ef3db2490d0da96a71572da0fa";
        let found = |password: &str, consumer: &str, stored: &str| basic_auth(password, consumer, stored);
        let other = "6375b5fd-9c95-4822-b2dd-80ffbccb7ec8";
        assert_eq!(found("supersecretpassword", consumer, stored), PasswordMatch::Sha1);
        assert_eq!(found("supersecretpassword ", consumer, stored), PasswordMatch::None);
        assert_eq!(found("supersecretpassword", other, stored), PasswordMatch::None);
        let upper = stored.to_uppercase();
        assert_eq!(
            found("supersecretpassword", consumer, &upper),
            PasswordMatch::None,
            "Kong compares the texts"
        );
        assert_eq!(found(stored, consumer, stored), PasswordMatch::None, "the hash is not the password");
        let fips = hex(&SHA256, &format!("supersecretpassword{consumer}"));
        assert_eq!(fips.len(), 64);
        assert_eq!(found("supersecretpassword", consumer, &fips), PasswordMatch::Sha256);
        assert_eq!(found("supersecretpassword ", consumer, &fips), PasswordMatch::None);
    }

    #[test]
    fn a_secret_is_found_by_five_digits_of_its_hash() {
        // Made with sha1sum and sha256sum.
        let idents = Idents::of("dora-token");
        assert_eq!((idents.sha1.as_str(), idents.sha256.as_str()), ("b5163", "17559"));
    }

    #[test]
    fn a_hashed_client_secret_has_kongs_own_parameters_or_none() {
        // Made with Python's hashlib (docs/kong-data-model.md, section 6).
        let hash = "AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU";
        assert_eq!(pbkdf2("secret", &format!("$pbkdf2-sha512$i=10000,l=32${hash}")), Some(true));
        assert_eq!(pbkdf2("Secret", &format!("$pbkdf2-sha512$i=10000,l=32${hash}")), Some(false));
        for other in ["$pbkdf2-sha512$i=20000,l=32$", "$pbkdf2-sha256$i=10000,l=32$", "$argon2id$v=19$", ""] {
            assert_eq!(pbkdf2("secret", &format!("{other}{hash}")), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_compared_with_its_bcrypt_hash() {
        // tests/fixtures/enterprise-2.8: Dora.Two.
        let stored = "$2b$09$b3d57df8f92b2f92c4f83ecFf.Fpi7BMrQcD.Atf0Ba4fmWWcxDA6";
        assert!(is_bcrypt(stored));
        assert_eq!(bcrypt("dora-token", stored), Some(true));
        assert_eq!(bcrypt("dora-tokem", stored), Some(false));
        assert_eq!(bcrypt("dora-token", "$2b$09$short"), None);
        for other in ["$2a$", "$2x$", "$2y$"] {
            assert!(!is_bcrypt(&stored.replacen("$2b$", other, 1)), "{other}: Kong compares it as a text");
        }
    }

    #[test]
    fn cipher_text_is_recognised_with_and_without_a_workspace() {
        assert!(is_encrypted("$ke$1$-x"));
        assert!(is_encrypted("c931ac03-a818-46f2-ba7c-beb0e1873001:$ke$1$-x"));
        assert!(!is_encrypted("da61c0083b6d19ef3db2490d0da96a71572da0fa"));
    }
}
