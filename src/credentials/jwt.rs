//! Credentials and tokens of the jwt plugin.

use data_encoding::BASE64URL_NOPAD;
use serde_json::Value;
use uuid::Uuid;

use super::CredentialCheck;
use super::checker::{CREDENTIAL_COLUMNS, CredentialChecker, unknown_user};
use super::key_material::JwtToken;
use super::outcome::{CheckOutcome, OutcomeReason};
use super::secret;
use super::store::{CredentialStore, RowQuery, TextRow, WORKSPACE, id_in};
use super::stored_secret::jwt_secret;
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
                Some(token) => self.token_for_plugins(row, token).await?,
                None => jwt_secret(row, &check.secret),
            };
            self.with_consumer(row, outcome).await
        })
        .await
    }

    /// Each jwt plugin of the credential's workspace verifies a token in its own way; those of others never find the
    /// credential.
    async fn token_for_plugins(&self, row: &TextRow, token: &JwtToken<'_>) -> Result<CheckOutcome> {
        let query = RowQuery {
            table: "plugins",
            columns: &["id", "ws_id", "enabled", "config"],
            text: Some(("name", "jwt")),
            workspace: id_in(row, WORKSPACE),
            ..RowQuery::default()
        };
        let plugins = self.store.find(query).await?;
        let enabled = plugins.iter().filter(|plugin| plugin.get("enabled").is_none_or(|on| on != "false"));
        let mut plugins: Vec<JwtPlugin> = enabled.map(JwtPlugin::of).collect();
        if plugins.is_empty() {
            plugins.push(JwtPlugin::default());
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are exact in a double")]
        let now = self.now_ms as f64 / 1000.0;
        Ok(common_outcome(plugins.iter().map(|plugin| plugin.verify(row, token, now)).collect()))
    }
}

/// What the configuration of a jwt plugin says of the verification.
#[derive(Debug, Clone, Default, PartialEq)]
struct JwtPlugin {
    /// The claims that must hold, besides the signature.
    claims: Vec<&'static str>,
    /// Seconds from now within which a token must expire; 0 is no limit.
    maximum_expiration: f64,
    secret_is_base64: bool,
}

impl JwtPlugin {
    fn of(plugin: &TextRow) -> JwtPlugin {
        let config: Value =
            plugin.get("config").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let claims = config.get("claims_to_verify").and_then(Value::as_array);
        let is_verified = |claim: &&str| claims.is_some_and(|claims| claims.iter().any(|own| own == *claim));
        JwtPlugin {
            claims: ["exp", "nbf"].into_iter().filter(is_verified).collect(),
            maximum_expiration: config.get("maximum_expiration").and_then(Value::as_f64).unwrap_or_default(),
            secret_is_base64: config.get("secret_is_base64") == Some(&Value::Bool(true)),
        }
    }

    fn verify(&self, row: &TextRow, token: &JwtToken<'_>, now: f64) -> CheckOutcome {
        let outcome = self.signature(row, token);
        if !outcome.is_accepted() {
            return outcome;
        }
        if let Some(claim) = token.refused_claim(&self.claims, now) {
            let message = format!(
                "The signature is correct, but {claim}, which the jwt plugin verifies, is past, not yet reached or missing."
            );
            return CheckOutcome::rejected(OutcomeReason::Expired, message);
        }
        if self.maximum_expiration > 0.0 && !token.expires_by(now + self.maximum_expiration) {
            let message = "The signature is correct, but exp is further ahead than the jwt plugin allows (maximum_expiration).";
            return CheckOutcome::rejected(OutcomeReason::Expired, message);
        }
        outcome
    }

    fn signature(&self, row: &TextRow, token: &JwtToken<'_>) -> CheckOutcome {
        let own = row.get("algorithm").map_or("HS256", String::as_str);
        if own != token.algorithm {
            let message =
                format!("The token is signed with {}, the credential is for {own}.", token.algorithm);
            return CheckOutcome::rejected(OutcomeReason::WrongSecret, message);
        }
        let is_equal = if own.starts_with("HS") {
            match row.get("secret") {
                Some(stored) if secret::is_encrypted(stored) => return CheckOutcome::encrypted(),
                stored => stored
                    .and_then(|stored| self.key(stored))
                    .and_then(|key| token.is_signed_with_secret(&key)),
            }
        } else {
            row.get("rsa_public_key").and_then(|public| token.is_signed_with_key(public))
        };
        match is_equal {
            Some(true) => CheckOutcome::accepted("The stored key verifies the token's signature."),
            Some(false) => CheckOutcome::rejected(
                OutcomeReason::WrongSecret,
                "The stored key does not verify the token's signature.",
            ),
            None => CheckOutcome::undecided(
                OutcomeReason::Undecidable,
                "The stored key, or the token's algorithm, cannot be used here.",
            ),
        }
    }

    /// The key of a stored secret; `None` where it is not in base64.
    fn key(&self, stored: &str) -> Option<Vec<u8>> {
        if !self.secret_is_base64 {
            return Some(stored.as_bytes().to_vec());
        }
        let url_safe = stored.replace('+', "-").replace('/', "_");
        BASE64URL_NOPAD.decode(url_safe.trim_end_matches('=').as_bytes()).ok()
    }
}

/// What the plugins of a workspace have in common.
fn common_outcome(outcomes: Vec<CheckOutcome>) -> CheckOutcome {
    let refused = outcomes.iter().find(|outcome| !outcome.is_accepted());
    match (refused, outcomes.iter().find(|outcome| outcome.is_accepted())) {
        (Some(refused), Some(_)) => CheckOutcome::undecided(
            OutcomeReason::Undecidable,
            format!("Some jwt plugins of the workspace accept the token, others do not: {}", refused.message),
        ),
        (Some(outcome), None) | (None, Some(outcome)) => outcome.clone(),
        (None, None) => CheckOutcome::compared(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: f64 = 1000.0;

    fn row(columns: &[(&str, &str)]) -> TextRow {
        columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn plugin(config: &str) -> JwtPlugin {
        JwtPlugin::of(&row(&[("config", config)]))
    }

    /// Signed with HS256 and the secret "a secret".
    fn signed(claims: &str) -> String {
        let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let body = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(claims));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"a secret");
        let signature = ring::hmac::sign(&key, body.as_bytes());
        format!("{body}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    fn verified(plugin: &JwtPlugin, secret: &str, claims: &str) -> (Option<bool>, OutcomeReason) {
        let text = signed(claims);
        let outcome = plugin.verify(&row(&[("secret", secret)]), &JwtToken::parse(&text).unwrap(), NOW);
        (outcome.accepted, outcome.reason)
    }

    const ACCEPTED: (Option<bool>, OutcomeReason) = (Some(true), OutcomeReason::Accepted);
    const EXPIRED: (Option<bool>, OutcomeReason) = (Some(false), OutcomeReason::Expired);

    #[test]
    fn a_token_must_be_of_the_credentials_own_algorithm() {
        let text = signed("{}");
        let token = JwtToken::parse(&text).unwrap();
        let of = |columns: &[(&str, &str)]| JwtPlugin::default().verify(&row(columns), &token, NOW);
        let secret = ("secret", "a secret");
        assert!(of(&[secret]).is_accepted(), "HS256 by default");
        assert!(!of(&[secret, ("algorithm", "HS512")]).is_accepted());
        assert!(!of(&[("secret", "another")]).is_accepted());
        assert_eq!(of(&[("secret", "$ke$1$-x")]).accepted, None);
    }

    #[test]
    fn only_the_claims_in_the_plugins_configuration_are_verified() {
        assert_eq!(plugin(r#"{"claims_to_verify": ["nbf", "exp"]}"#).claims, ["exp", "nbf"]);
        for none in [r#"{"claims_to_verify": null}"#, r#"{"claims_to_verify": {}}"#, "{}", "no JSON"] {
            assert_eq!(plugin(none), JwtPlugin::default(), "{none}");
            assert_eq!(verified(&plugin(none), "a secret", r#"{"exp": 1}"#), ACCEPTED);
        }
        let exp = plugin(r#"{"claims_to_verify": ["exp"]}"#);
        assert_eq!(verified(&exp, "a secret", r#"{"exp": 1001}"#), ACCEPTED);
        assert_eq!(verified(&exp, "a secret", r#"{"exp": 1000}"#), EXPIRED);
        assert_eq!(verified(&exp, "a secret", "{}"), EXPIRED);
        assert_eq!(verified(&exp, "another", r#"{"exp": 1001}"#).1, OutcomeReason::WrongSecret);
    }

    #[test]
    fn a_token_must_expire_within_the_maximum() {
        let limited = plugin(r#"{"claims_to_verify": ["exp"], "maximum_expiration": 60}"#);
        assert_eq!(verified(&limited, "a secret", r#"{"exp": 1060}"#), ACCEPTED);
        assert_eq!(verified(&limited, "a secret", r#"{"exp": 1061}"#), EXPIRED);
    }

    #[test]
    fn a_secret_in_base64_is_decoded_first() {
        let plugin = plugin(r#"{"secret_is_base64": true}"#);
        assert_eq!(verified(&plugin, "YSBzZWNyZXQ=", "{}"), ACCEPTED);
        assert_eq!(verified(&plugin, "YSBzZWNyZXQ", "{}"), ACCEPTED);
        assert_eq!(verified(&plugin, "a secret", "{}").0, None, "not in base64");
    }

    #[test]
    fn plugins_that_disagree_leave_a_token_undecided() {
        let (yes, no) = (CheckOutcome::accepted(""), CheckOutcome::expired());
        assert_eq!(common_outcome(vec![yes.clone(), yes.clone()]), yes);
        assert_eq!(common_outcome(vec![no.clone(), no.clone()]), no);
        let mixed = common_outcome(vec![yes, no]);
        assert_eq!((mixed.accepted, mixed.reason), (None, OutcomeReason::Undecidable));
    }
}
