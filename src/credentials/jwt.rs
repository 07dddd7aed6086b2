//! Credentials and tokens of the jwt plugin.

use uuid::Uuid;

use super::CredentialCheck;
use super::checker::{CREDENTIAL_COLUMNS, CredentialChecker, unknown_user};
use super::key_material::JwtToken;
use super::outcome::{CheckOutcome, OutcomeReason};
use super::store::{CredentialStore, RowQuery, TextRow, WORKSPACE, id_in};
use super::stored_secret::{jwt_secret, jwt_token};
use crate::error::Result;

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn jwt(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let token = JwtToken::parse(&check.secret);
        let issuer = token.as_ref().and_then(JwtToken::issuer);
        let rows = match check.user.as_deref().or(issuer) {
            Some(key) => self.unique("jwt_secrets", "key", key, workspace).await?,
            None => {
                let text = Some(("secret", check.secret.as_str()));
                let query = RowQuery { columns: CREDENTIAL_COLUMNS, text, workspace, ..RowQuery::default() };
                self.store.find(RowQuery { table: "jwt_secrets", ..query }).await?
            }
        };
        let missing = match (&check.user, issuer) {
            (Some(_), _) => unknown_user(check.kind),
            (None, Some(_)) => CheckOutcome::rejected(
                OutcomeReason::UnknownUser,
                "No credential has the token's iss as its key.",
            ),
            (None, None) => {
                CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No credential has this secret.")
            }
        };
        self.any(&rows, missing, async |row| {
            let outcome = match &token {
                Some(token) => self.with_claims(row, token, jwt_token(row, token)).await?,
                None => jwt_secret(row, &check.secret),
            };
            self.with_consumer(row, outcome).await
        })
        .await
    }

    /// Kong accepts a correct token only if the claims hold that the plugin verifies. The plugins are those of the
    /// credential's workspace: only they find it.
    async fn with_claims(
        &self,
        row: &TextRow,
        token: &JwtToken<'_>,
        outcome: CheckOutcome,
    ) -> Result<CheckOutcome> {
        if !outcome.is_accepted() {
            return Ok(outcome);
        }
        let query = RowQuery {
            table: "plugins",
            columns: &["id", "ws_id", "enabled", "config"],
            text: Some(("name", "jwt")),
            workspace: id_in(row, WORKSPACE),
            ..RowQuery::default()
        };
        let plugins = self.store.find(query).await?;
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a double")]
        let now = self.now_ms as f64 / 1000.0;
        let enabled = plugins.iter().filter(|plugin| plugin.get("enabled").is_none_or(|on| on != "false"));
        let refused: Vec<Option<&str>> =
            enabled.map(|plugin| token.refused_claim(&claims_to_verify(plugin), now)).collect();
        Ok(claims_outcome(&refused, outcome))
    }
}

/// What Kong verifies besides the signature.
fn claims_to_verify(plugin: &TextRow) -> Vec<&'static str> {
    let config: serde_json::Value =
        plugin.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let claims = config.get("claims_to_verify").and_then(|claims| claims.as_array());
    let is_verified = |claim: &&str| claims.is_some_and(|claims| claims.iter().any(|own| own == *claim));
    ["exp", "nbf"].into_iter().filter(is_verified).collect()
}

/// The outcome for a token with a correct signature; `refused` holds for each plugin the claim for which it refuses the
/// token.
fn claims_outcome(refused: &[Option<&str>], outcome: CheckOutcome) -> CheckOutcome {
    let Some(claim) = refused.iter().flatten().next() else { return outcome };
    if refused.contains(&None) {
        let message = format!(
            "The signature is correct, but {claim} is past, not yet reached or missing: jwt plugins that verify it refuse the token, the others of the workspace accept it."
        );
        return CheckOutcome::undecided(OutcomeReason::Undecidable, message);
    }
    let message = format!(
        "The signature is correct, but {claim}, which the jwt plugin verifies, is past, not yet reached or missing."
    );
    CheckOutcome::rejected(OutcomeReason::Expired, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(config: &str) -> TextRow {
        TextRow::from([("config".to_owned(), config.to_owned())])
    }

    #[test]
    fn only_the_claims_in_the_plugins_configuration_are_verified() {
        assert_eq!(claims_to_verify(&plugin(r#"{"claims_to_verify": ["exp"]}"#)), ["exp"]);
        assert_eq!(claims_to_verify(&plugin(r#"{"claims_to_verify": ["nbf", "exp"]}"#)), ["exp", "nbf"]);
        for none in [r#"{"claims_to_verify": null}"#, r#"{"claims_to_verify": {}}"#, "{}", "no JSON"] {
            assert!(claims_to_verify(&plugin(none)).is_empty(), "{none}");
        }
        assert!(claims_to_verify(&TextRow::new()).is_empty());
    }

    #[test]
    fn a_token_is_refused_where_every_plugin_refuses_it() {
        let outcome = |refused: &[Option<&str>]| {
            let outcome = claims_outcome(refused, CheckOutcome::accepted(""));
            (outcome.accepted, outcome.reason)
        };
        let accepted = (Some(true), OutcomeReason::Accepted);
        assert_eq!(outcome(&[]), accepted, "no plugin: nothing verifies the claims");
        assert_eq!(outcome(&[None, None]), accepted);
        assert_eq!(outcome(&[Some("exp")]), (Some(false), OutcomeReason::Expired));
        assert_eq!(outcome(&[Some("exp"), None]), (None, OutcomeReason::Undecidable));
    }
}
