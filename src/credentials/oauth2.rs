//! Clients and tokens of the oauth2 plugin.

use uuid::Uuid;

use super::CredentialCheck;
use super::checker::{CREDENTIAL_COLUMNS, CredentialChecker, has_expired, unknown_user};
use super::outcome::{CheckOutcome, OutcomeReason};
use super::store::{CredentialStore, RowQuery, TextRow, id_in, row_by_id};
use super::stored_secret::{client_secret, on_blocking_thread};
use crate::error::Result;

const TOKEN_COLUMNS: &[&str] =
    &["id", "ws_id", "credential_id", "created_at", "expires_in", "authenticated_userid", "ttl"];

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn oauth2_client(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let rows = self.unique("oauth2_credentials", "client_id", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            let (row, given) = (row.clone(), check.secret.clone());
            let hashed = row.clone();
            let outcome = on_blocking_thread(move || client_secret(&hashed, &given)).await;
            self.with_consumer(&row, outcome).await
        })
        .await
    }

    pub(super) async fn oauth2_token(
        &self,
        check: &CredentialCheck,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        for (column, refresh) in [("access_token", false), ("refresh_token", true)] {
            let text = Some((column, check.secret.as_str()));
            let query = RowQuery { columns: TOKEN_COLUMNS, text, workspace, ..RowQuery::default() };
            let rows = self.store.find(RowQuery { table: "oauth2_tokens", unique: true, ..query }).await?;
            if let Some(row) = rows.first() {
                return self.issued_token(row, check.user.as_deref(), refresh).await;
            }
        }
        Ok(CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No token has this text."))
    }

    async fn issued_token(&self, row: &TextRow, user: Option<&str>, refresh: bool) -> Result<CheckOutcome> {
        if has_expired(row.get("ttl"), self.now_ms) || (!refresh && is_token_expired(row, self.now_ms)) {
            return Ok(CheckOutcome::expired());
        }
        let client =
            row_by_id(&self.store, "oauth2_credentials", CREDENTIAL_COLUMNS, id_in(row, "credential_id"))
                .await?;
        let Some(client) = client else {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::OwnerMissing,
                "The token is correct, but the client to which it was issued does not exist.",
            ));
        };
        let outcome = if refresh {
            CheckOutcome::accepted_with_remark(
                "The secret is a refresh token: Kong accepts it from its client for a new access token, and refuses it as an access token.",
            )
        } else {
            CheckOutcome::accepted("The secret is an access token.")
        };
        let outcome = self.with_consumer(&client, outcome).await?;
        match user {
            Some(user) if row.get("authenticated_userid").map(String::as_str) == Some(user) => Ok(outcome),
            user => self.with_user(&client, user, outcome).await,
        }
    }
}

/// An access token expires `expires_in` seconds after its creation; 0 is never.
fn is_token_expired(row: &TextRow, now_ms: i64) -> bool {
    let number = |name: &str| row.get(name).and_then(|text| text.parse::<i64>().ok());
    match (number("created_at"), number("expires_in")) {
        (Some(created), Some(seconds)) if seconds > 0 => {
            now_ms > created.saturating_add(seconds.saturating_mul(1000))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(created_ms: i64, seconds: i64) -> TextRow {
        let columns = [("created_at", created_ms), ("expires_in", seconds)];
        columns.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect()
    }

    #[test]
    fn a_token_expires_after_its_creation_and_one_of_zero_seconds_never() {
        assert!(!is_token_expired(&token(1_000, 10), 11_000));
        assert!(is_token_expired(&token(1_000, 10), 11_001));
        assert!(!is_token_expired(&token(1_000, 0), i64::MAX));
        assert!(!is_token_expired(&TextRow::new(), i64::MAX));
    }
}
