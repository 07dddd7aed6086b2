//! Compares secrets with stored ones by Kong's rules (docs/kong-data-model.md, section 6), in constant time.

use data_encoding::BASE64_NOPAD;
use subtle::ConstantTimeEq;

/// The only parameters of a hashed client secret that Kong accepts: it compares the whole text, and writes these.
const PBKDF2: &str = "$pbkdf2-sha512$i=10000,l=32$";

/// First characters of a value that Enterprise's keyring encrypted.
const CIPHER: &str = "$ke$";

pub(super) fn is_equal(given: &[u8], stored: &[u8]) -> bool {
    given.ct_eq(stored).into()
}

pub(super) fn is_encrypted(stored: &str) -> bool {
    stored.starts_with(CIPHER) || stored.get(36..).is_some_and(|rest| rest.starts_with(":$ke$"))
}

/// The stored password is the lower-case hexadecimal SHA-1 of password and consumer id.
pub(super) fn basic_auth(password: &str, consumer: &str, stored: &str) -> bool {
    let salted = format!("{password}{consumer}");
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, salted.as_bytes());
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    is_equal(hex.as_bytes(), stored.as_bytes())
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

pub(super) fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|start| stored.starts_with(start))
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
        assert!(basic_auth("supersecretpassword", consumer, stored));
        assert!(!basic_auth("supersecretpassword ", consumer, stored));
        assert!(!basic_auth("supersecretpassword", "6375b5fd-9c95-4822-b2dd-80ffbccb7ec8", stored));
        assert!(
            !basic_auth("supersecretpassword", consumer, &stored.to_uppercase()),
            "Kong compares the texts"
        );
        assert!(!basic_auth(stored, consumer, stored), "the hash is not the password");
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
        // tests/fixtures/enterprise-2.8: kong_admin.
        let stored = "$2b$09$fOCn0etrhinaY0r.F3x70u4FZdj4r.ltoYgNJhZvyIAC56Cv1EvIy";
        assert!(is_bcrypt(stored));
        assert_eq!(bcrypt("super-admin-token", stored), Some(true));
        assert_eq!(bcrypt("super-admin-tokem", stored), Some(false));
        assert_eq!(bcrypt("super-admin-token", "$2b$09$short"), None);
    }

    #[test]
    fn cipher_text_is_recognised_with_and_without_a_workspace() {
        assert!(is_encrypted("$ke$1$-x"));
        assert!(is_encrypted("c931ac03-a818-46f2-ba7c-beb0e1873001:$ke$1$-x"));
        assert!(!is_encrypted("da61c0083b6d19ef3db2490d0da96a71572da0fa"));
    }
}
