//! Keys of key-auth and Enterprise's key-auth-enc, and certificates of mtls-auth.

use uuid::Uuid;

use super::CredentialCheck;
use super::checker::{CREDENTIAL_COLUMNS, CredentialChecker};
use super::key_material;
use super::outcome::{CheckOutcome, OutcomeReason};
use super::secret::{self, Idents};
use super::store::{CredentialStore, RowQuery, TextRow, id_in, row_by_id};
use crate::error::Result;

/// The table of key-auth-enc.
const ENCRYPTED_KEYS: &str = "keyauth_enc_credentials";

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn key_auth(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let rows = self.unique("keyauth_credentials", "key", &check.secret, workspace).await?;
        self.any(&rows, no_credential_with_key(), async |row| {
            let outcome = CheckOutcome::accepted("A credential has this key.");
            let outcome = self.with_consumer(row, outcome).await?;
            self.with_user(row, check.user.as_deref(), outcome).await
        })
        .await
    }

    /// Kong finds a key of key-auth-enc by the digits of its hash alone, and compares it once it is decrypted.
    pub(super) async fn key_auth_enc(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let idents = Idents::of(&check.secret);
        let mut rows = Vec::new();
        if self.rules.has_sha256_idents {
            rows.extend(self.keys_with_ident(&idents.sha256, workspace).await?);
        }
        rows.extend(self.keys_with_ident(&idents.sha1, workspace).await?);
        let missing = match self.unique(ENCRYPTED_KEYS, "key", &check.secret, workspace).await? {
            hidden if hidden.is_empty() => no_credential_with_key(),
            _ => CheckOutcome::rejected(
                OutcomeReason::WrongIdent,
                "A credential has this key, but Kong does not find it: its key_ident is that of another key.",
            ),
        };
        self.any(&rows, missing, async |row| {
            let outcome = self.with_consumer(row, encrypted_key(row, &check.secret)).await?;
            self.with_user(row, check.user.as_deref(), outcome).await
        })
        .await
    }

    async fn keys_with_ident(&self, ident: &str, workspace: Option<Uuid>) -> Result<Vec<TextRow>> {
        let text = Some(("key_ident", ident));
        let query =
            RowQuery { table: ENCRYPTED_KEYS, columns: CREDENTIAL_COLUMNS, text, ..RowQuery::default() };
        self.store.find(RowQuery { workspace, ..query }).await
    }

    pub(super) async fn mtls(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let certificate = key_material::names_of_certificate(&check.secret);
        let names = certificate.clone().unwrap_or_else(|| vec![check.secret.clone()]);
        let columns = &["id", "ws_id", "consumer_id", "subject_name", "ca_certificate_id"];
        let mut rows = Vec::new();
        for name in &names {
            let text = Some(("subject_name", name.as_str()));
            let table = "mtls_auth_credentials";
            rows.extend(
                self.store.find(RowQuery { table, columns, text, workspace, ..RowQuery::default() }).await?,
            );
        }
        let missing =
            CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No credential has this subject name.");
        self.any(&rows, missing, async |row| {
            let authority = match id_in(row, "ca_certificate_id") {
                id @ Some(_) if certificate.is_some() => {
                    row_by_id(&self.store, "ca_certificates", &["id", "cert"], id).await?
                }
                _ => None,
            };
            let signed = authority.as_ref().and_then(|row| row.get("cert"));
            let outcome = match signed.map(|authority| key_material::is_signed_by(&check.secret, authority)) {
                None | Some(Some(true)) => CheckOutcome::accepted("A credential has this subject name."),
                Some(Some(false)) => CheckOutcome::rejected(
                    OutcomeReason::WrongSecret,
                    "A credential has this subject name, but the certificate is not signed by its authority.",
                ),
                Some(None) => CheckOutcome::undecided(
                    OutcomeReason::Undecidable,
                    "The authority's certificate cannot be read.",
                ),
            };
            let outcome = self.with_consumer(row, outcome).await?;
            self.with_user(row, check.user.as_deref(), outcome).await
        })
        .await
    }
}

fn no_credential_with_key() -> CheckOutcome {
    CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No credential has this key.")
}

/// A row with the digits of the given key. Five digits are those of other keys too.
fn encrypted_key(row: &TextRow, given: &str) -> CheckOutcome {
    match row.get("key") {
        Some(stored) if secret::is_encrypted(stored) => CheckOutcome::undecided(
            OutcomeReason::Encrypted,
            "A credential has the key_ident of this key, but its key is encrypted by the keyring; only Kong with the same keyring can compare it.",
        ),
        Some(stored) if secret::is_equal(given.as_bytes(), stored.as_bytes()) => {
            CheckOutcome::accepted("A credential has this key.")
        }
        _ => no_credential_with_key(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_the_digits_of_a_key_is_compared_unless_it_is_encrypted() {
        let key = |text: &str| encrypted_key(&TextRow::from([("key".to_owned(), text.to_owned())]), "k");
        assert_eq!(key("k").accepted, Some(true));
        assert_eq!(key("another").reason, OutcomeReason::UnknownSecret);
        assert_eq!((key("$ke$1$-x").accepted, key("$ke$1$-x").reason), (None, OutcomeReason::Encrypted));
        // Blue's key_ident may outlive the rest of its row.
        assert_eq!(encrypted_key(&TextRow::new(), "k").reason, OutcomeReason::UnknownSecret);
    }
}
