//! Compares a given secret with the row that Kong would find for it.

use super::key_material;
use super::outcome::{CheckOutcome, OutcomeReason};
use super::secret::{self, PasswordMatch};
use super::store::TextRow;

/// Compares with a secret that is stored as plain text.
pub(super) fn plain(stored: Option<&String>, given: &str) -> CheckOutcome {
    match stored {
        None => CheckOutcome::rejected(OutcomeReason::NoSecret, "No secret is stored."),
        Some(stored) if secret::is_encrypted(stored) => CheckOutcome::encrypted(),
        Some(stored) => CheckOutcome::compared(secret::is_equal(given.as_bytes(), stored.as_bytes())),
    }
}

pub(super) fn basic_auth(row: &TextRow, given: &str) -> CheckOutcome {
    let (Some(stored), Some(consumer)) = (row.get("password"), row.get("consumer_id")) else {
        return CheckOutcome::rejected(OutcomeReason::NoSecret, "No password, or no consumer, is stored.");
    };
    if secret::is_encrypted(stored) {
        return CheckOutcome::encrypted();
    }
    match secret::basic_auth(given, consumer, stored) {
        PasswordMatch::None => CheckOutcome::compared(false),
        PasswordMatch::Sha1 => CheckOutcome::compared(true),
        PasswordMatch::Sha256 => CheckOutcome::fips_mode(),
    }
}

/// A client's secret is a hash if its row says so, whatever the text looks like.
pub(super) fn client_secret(row: &TextRow, given: &str) -> CheckOutcome {
    let stored = row.get("client_secret");
    let hashed = row.get("hash_secret").map(String::as_str) == Some("true");
    match stored {
        Some(text) if hashed && !secret::is_encrypted(text) => match secret::pbkdf2(given, text) {
            Some(is_equal) => CheckOutcome::compared(is_equal),
            None => CheckOutcome::rejected(
                OutcomeReason::HashNotAccepted,
                "The stored secret is a hash of a form that Kong does not accept for any secret.",
            ),
        },
        _ => plain(stored, given),
    }
}

pub(super) fn jwt_secret(row: &TextRow, given: &str) -> CheckOutcome {
    let algorithm = row.get("algorithm").map_or("HS256", String::as_str);
    if algorithm.starts_with("HS") {
        return plain(row.get("secret"), given);
    }
    let Some(public) = row.get("rsa_public_key") else {
        return CheckOutcome::rejected(OutcomeReason::NoSecret, "No public key is stored.");
    };
    match key_material::is_key_of(given, public) {
        Some(true) => CheckOutcome::accepted("The stored public key belongs to the given key."),
        Some(false) => CheckOutcome::rejected(
            OutcomeReason::WrongSecret,
            "The stored public key belongs to another key.",
        ),
        None => CheckOutcome::undecided(
            OutcomeReason::Undecidable,
            "The given key or the stored one cannot be read.",
        ),
    }
}

/// Hashing would block the threads of the runtime.
pub(super) async fn on_blocking_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$pbkdf2-sha512$i=10000,l=32$AAECAwQFBgcICQoLDA0ODw$s1qOkFay1DbcR0sablkjBgtOqf1IcoQVkkK1uzR9LdU";

    fn row(columns: &[(&str, &str)]) -> TextRow {
        columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_row_decides_whether_a_clients_secret_is_a_hash() {
        let hashed = row(&[("client_secret", HASH), ("hash_secret", "true")]);
        assert!(client_secret(&hashed, "secret").is_accepted());
        assert!(!client_secret(&hashed, HASH).is_accepted());
        for plain in
            [row(&[("client_secret", HASH), ("hash_secret", "false")]), row(&[("client_secret", HASH)])]
        {
            assert!(client_secret(&plain, HASH).is_accepted());
            assert!(!client_secret(&plain, "secret").is_accepted());
        }
        let other = row(&[("client_secret", "$argon2id$v=19$x"), ("hash_secret", "true")]);
        assert_eq!(client_secret(&other, "$argon2id$v=19$x").reason, OutcomeReason::HashNotAccepted);
        assert_eq!(client_secret(&row(&[]), "").reason, OutcomeReason::NoSecret);
    }

    #[test]
    fn cipher_text_is_undecided() {
        let cipher = "$ke$1$-id-nonce-text";
        assert_eq!(plain(Some(&cipher.to_owned()), cipher).accepted, None);
        let row = row(&[
            ("password", cipher),
            ("consumer_id", "c"),
            ("client_secret", cipher),
            ("hash_secret", "true"),
        ]);
        assert_eq!((basic_auth(&row, "x").accepted, client_secret(&row, "x").accepted), (None, None));
    }

    #[test]
    fn a_password_of_fips_mode_is_undecided_and_a_wrong_one_is_not() {
        // SHA-256 over "pw" and the consumer id "c", made with sha256sum.
        let stored = "e4ffb7bd879b89da05f85a769c5c5f76095b45e83297cd2f79ae68509dfbca51";
        let fips = row(&[("password", stored), ("consumer_id", "c")]);
        let outcome = basic_auth(&fips, "pw");
        assert_eq!((outcome.accepted, outcome.reason), (None, OutcomeReason::FipsMode));
        assert_eq!(basic_auth(&fips, "pw2").accepted, Some(false));
    }
}
