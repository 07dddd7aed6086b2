//! A given secret beside the row that Kong would find for it: the judgement on the row alone.

use super::keys::{self, Token};
use super::secret;
use super::store::Row;
use super::verdict::{Reason, Verdict};

/// A secret that is stored as it is.
pub(super) fn plain(stored: Option<&String>, given: &str) -> Verdict {
    match stored {
        None => Verdict::refused(Reason::NoSecret, "No secret is stored."),
        Some(stored) if secret::is_encrypted(stored) => Verdict::encrypted(),
        Some(stored) => Verdict::of(secret::same(given.as_bytes(), stored.as_bytes())),
    }
}

pub(super) fn basic_auth(row: &Row, given: &str) -> Verdict {
    let (Some(stored), Some(consumer)) = (row.get("password"), row.get("consumer_id")) else {
        return Verdict::refused(Reason::NoSecret, "No password, or no consumer, is stored.");
    };
    if secret::is_encrypted(stored) {
        return Verdict::encrypted();
    }
    Verdict::of(secret::basic_auth(given, consumer, stored))
}

/// A client's secret: hashed where its row says so, whatever the text looks like.
pub(super) fn client_secret(row: &Row, given: &str) -> Verdict {
    let stored = row.get("client_secret");
    let hashed = row.get("hash_secret").map(String::as_str) == Some("true");
    match stored {
        Some(text) if hashed && !secret::is_encrypted(text) => match secret::pbkdf2(given, text) {
            Some(right) => Verdict::of(right),
            None => Verdict::refused(
                Reason::HashNotAccepted,
                "The stored secret is a hash of a form that Kong does not accept for any secret.",
            ),
        },
        _ => plain(stored, given),
    }
}

pub(super) fn jwt_secret(row: &Row, given: &str) -> Verdict {
    let algorithm = row.get("algorithm").map_or("HS256", String::as_str);
    if algorithm.starts_with("HS") {
        return plain(row.get("secret"), given);
    }
    let Some(public) = row.get("rsa_public_key") else {
        return Verdict::refused(Reason::NoSecret, "No public key is stored.");
    };
    match keys::fits(given, public) {
        Some(true) => Verdict::accepted("The stored public key is that of the given key."),
        Some(false) => Verdict::refused(Reason::WrongSecret, "The stored public key is another one."),
        None => Verdict::open(Reason::Undecidable, "The given key or the stored one cannot be read."),
    }
}

pub(super) fn jwt_token(row: &Row, token: &Token<'_>) -> Verdict {
    let own = row.get("algorithm").map_or("HS256", String::as_str);
    if own != token.algorithm {
        let message = format!("The token is signed with {}, the credential is for {own}.", token.algorithm);
        return Verdict::refused(Reason::WrongSecret, message);
    }
    let right = if own.starts_with("HS") {
        match row.get("secret") {
            Some(stored) if secret::is_encrypted(stored) => return Verdict::encrypted(),
            stored => stored.and_then(|stored| token.signed_with_secret(stored.as_bytes())),
        }
    } else {
        row.get("rsa_public_key").and_then(|public| token.signed_with_key(public))
    };
    match right {
        Some(true) => Verdict::accepted("The token's signature fits the stored key."),
        Some(false) => {
            Verdict::refused(Reason::WrongSecret, "The token's signature does not fit the stored key.")
        }
        None => Verdict::open(
            Reason::Undecidable,
            "The stored key, or the token's algorithm, cannot be used here.",
        ),
    }
}

/// An RBAC user's token, on a core of its own: bcrypt takes its time.
pub(super) async fn rbac_token(row: &Row, given: &str) -> Verdict {
    let Some(stored) = row.get("user_token").cloned() else {
        return Verdict::refused(Reason::NoSecret, "No token is stored.");
    };
    if secret::is_encrypted(&stored) {
        return Verdict::encrypted();
    }
    if !secret::is_bcrypt(&stored) {
        return match secret::same(given.as_bytes(), stored.as_bytes()) {
            true => Verdict::open(
                Reason::Undecidable,
                "It is the stored text, but that is no bcrypt hash; whether this version of Kong still takes it is not known.",
            ),
            false => Verdict::of(false),
        };
    }
    let given = given.to_owned();
    let right = on_a_core(move || secret::bcrypt(&given, &stored)).await;
    let enabled = row.get("enabled").map(String::as_str) != Some("false");
    match right {
        Some(true) if enabled => Verdict::of(true),
        Some(true) => {
            Verdict::refused(Reason::Disabled, "It is the right one, but the RBAC user is switched off.")
        }
        Some(false) => Verdict::of(false),
        None => Verdict::refused(Reason::HashNotAccepted, "The stored hash cannot be read."),
    }
}

/// Hashing keeps a core busy; the runtime's own threads have other things to do.
pub(super) async fn on_a_core<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
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

    fn row(columns: &[(&str, &str)]) -> Row {
        columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_row_says_whether_a_clients_secret_is_a_hash_and_not_its_look() {
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
        assert_eq!(client_secret(&other, "$argon2id$v=19$x").reason, Reason::HashNotAccepted);
        assert_eq!(client_secret(&row(&[]), "").reason, Reason::NoSecret);
    }

    #[test]
    fn cipher_text_is_never_called_wrong() {
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
    fn a_token_must_be_of_the_credentials_own_algorithm() {
        let text = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c";
        let token = Token::parse(text).unwrap();
        let secret = ("secret", "your-256-bit-secret");
        assert!(jwt_token(&row(&[secret]), &token).is_accepted(), "HS256 where none is said");
        assert!(!jwt_token(&row(&[secret, ("algorithm", "HS512")]), &token).is_accepted());
        assert!(!jwt_token(&row(&[("secret", "another")]), &token).is_accepted());
    }

    #[tokio::test]
    async fn a_token_of_a_user_who_is_switched_off_is_right_and_does_not_open() {
        let hash = bcrypt::hash("a token", 4).unwrap();
        let user = |enabled: &str| row(&[("user_token", &hash), ("enabled", enabled)]);
        assert!(rbac_token(&user("true"), "a token").await.is_accepted());
        assert_eq!(rbac_token(&user("false"), "a token").await.reason, Reason::Disabled);
        assert_eq!(rbac_token(&user("false"), "another").await.reason, Reason::WrongSecret);
        let plain = row(&[("user_token", "a token"), ("enabled", "true")]);
        assert_eq!(
            rbac_token(&plain, "a token").await.accepted,
            None,
            "whether it still is accepted is not known"
        );
    }
}
