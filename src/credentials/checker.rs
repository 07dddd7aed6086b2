//! Decides whether one side would accept a secret: rows are found and compared as Kong does it.

use uuid::Uuid;

use super::CredentialCheck;
use super::admins::{self, AdminRows};
use super::key_material::{self, JwtToken};
use super::kind::{CREDENTIAL_TABLES, CredentialKind};
use super::outcome::{CheckOutcome, OutcomeReason};
use super::store::{CredentialStore, RowQuery, TextRow, WORKSPACE, id_in, row_by_id};
use super::stored_secret::{
    basic_auth, client_secret, jwt_secret, jwt_token, on_blocking_thread, plain, rbac_token,
};
use crate::error::Result;

/// The workspace of a check that names none.
pub(crate) const DEFAULT_WORKSPACE: &str = "default";

const CREDENTIAL_COLUMNS: &[&str] = &[
    "id",
    "ws_id",
    "consumer_id",
    "username",
    "password",
    "key",
    "secret",
    "algorithm",
    "rsa_public_key",
    "client_id",
    "client_secret",
    "hash_secret",
    "ttl",
];

pub(super) struct CredentialChecker<S> {
    pub(super) store: S,
    /// Milliseconds since 1970; what expires before is expired.
    pub(super) now_ms: i64,
}

type Workspace = (Uuid, String);

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn check(&self, check: &CredentialCheck) -> Result<CheckOutcome> {
        if matches!(check.kind, CredentialKind::AdminToken | CredentialKind::AdminPassword) {
            return self.admin(check).await;
        }
        let table = table(check.kind);
        if !self.store.has_table(table) {
            let message = format!("Kong on {} has no table \"{table}\".", self.store.side());
            return Ok(CheckOutcome::rejected(OutcomeReason::NoTable, message));
        }
        let Some(workspace) = self.workspace(check.workspace.as_deref().unwrap_or(DEFAULT_WORKSPACE)).await?
        else {
            return Ok(unknown_workspace(self.store.side()));
        };
        let outcome = self.check_within(check, Some(workspace.0)).await?;
        if outcome.accepted != Some(false) || !may_be_elsewhere(outcome.reason) {
            return Ok(outcome);
        }
        // The most common mistake: the secret belongs to another workspace.
        if self.check_within(check, None).await?.is_accepted() {
            return Ok(other_workspace(&workspace.1));
        }
        Ok(outcome)
    }

    /// Checks within one workspace, or within all.
    async fn check_within(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        match check.kind {
            CredentialKind::BasicAuth => self.basic_auth(check, workspace).await,
            CredentialKind::KeyAuth => self.key(check, "keyauth_credentials", workspace).await,
            CredentialKind::KeyAuthEnc => self.key(check, "keyauth_enc_credentials", workspace).await,
            CredentialKind::HmacAuth => self.hmac(check, workspace).await,
            CredentialKind::Jwt => self.jwt(check, workspace).await,
            CredentialKind::Oauth2Client => self.oauth2_client(check, workspace).await,
            CredentialKind::Oauth2Token => self.oauth2_token(check, workspace).await,
            CredentialKind::Acl => self.acl(check, workspace).await,
            CredentialKind::Mtls => self.mtls(check, workspace).await,
            CredentialKind::RbacToken => self.rbac_token(check, workspace).await,
            CredentialKind::AdminToken | CredentialKind::AdminPassword => self.admin(check).await,
        }
    }

    async fn workspace(&self, name: &str) -> Result<Option<Workspace>> {
        let columns = &["id", "name"];
        let table = "workspaces";
        let mut rows = Vec::new();
        // As in Kong, a text that is an id is no name.
        if let Ok(id) = Uuid::parse_str(name) {
            let by_id = RowQuery { table, columns, id: Some(("id", id)), ..RowQuery::default() };
            rows = self.store.find(by_id).await?;
        }
        if rows.is_empty() {
            let by_name = RowQuery { table, columns, text: Some(("name", name)), ..RowQuery::default() };
            rows = self.store.find(by_name).await?;
        }
        Ok(rows
            .first()
            .and_then(|row| Some((id_in(row, "id")?, row.get("name").cloned().unwrap_or_default()))))
    }

    async fn unique(
        &self,
        table: &str,
        column: &str,
        text: &str,
        workspace: Option<Uuid>,
    ) -> Result<Vec<TextRow>> {
        let text = Some((column, text));
        self.store
            .find(RowQuery {
                table,
                columns: CREDENTIAL_COLUMNS,
                text,
                unique: true,
                workspace,
                ..RowQuery::default()
            })
            .await
    }

    /// The best outcome over several rows: one that is accepted is enough.
    async fn any<F>(&self, rows: &[TextRow], missing: CheckOutcome, check: F) -> Result<CheckOutcome>
    where
        F: AsyncFn(&TextRow) -> Result<CheckOutcome>,
    {
        let mut best = None;
        for row in rows {
            let outcome = check(row).await?;
            if outcome.is_accepted() {
                return Ok(outcome);
            }
            // Any other reason says more than that the secret is wrong.
            let is_specific = |outcome: &CheckOutcome| outcome.reason != OutcomeReason::WrongSecret;
            if best.as_ref().is_none_or(|best| is_specific(&outcome) && !is_specific(best)) {
                best = Some(outcome);
            }
        }
        Ok(best.unwrap_or(missing))
    }

    /// Kong accepts a correct secret only if it has not expired and its consumer exists.
    async fn with_consumer(&self, row: &TextRow, outcome: CheckOutcome) -> Result<CheckOutcome> {
        if !outcome.is_accepted() {
            return Ok(outcome);
        }
        if has_expired(row.get("ttl"), self.now_ms) {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::Expired,
                "The secret is correct, but it has expired.",
            ));
        }
        let consumer = row_by_id(&self.store, "consumers", id_in(row, "consumer_id")).await?;
        Ok(if consumer.is_some() {
            outcome
        } else {
            CheckOutcome::rejected(
                OutcomeReason::OwnerMissing,
                "The secret is correct, but its consumer does not exist.",
            )
        })
    }

    async fn basic_auth(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let rows = self.unique("basicauth_credentials", "username", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            self.with_consumer(row, basic_auth(row, &check.secret)).await
        })
        .await
    }

    async fn key(
        &self,
        check: &CredentialCheck,
        table: &str,
        workspace: Option<Uuid>,
    ) -> Result<CheckOutcome> {
        let rows = self.unique(table, "key", &check.secret, workspace).await?;
        let missing = CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No credential has this key.");
        let outcome = self
            .any(&rows, missing, async |row| {
                let outcome =
                    self.with_consumer(row, CheckOutcome::accepted("A credential has this key.")).await?;
                self.with_user(row, check.user.as_deref(), outcome).await
            })
            .await?;
        if outcome.reason != OutcomeReason::UnknownSecret
            || check.kind != CredentialKind::KeyAuthEnc
            || workspace.is_none()
        {
            return Ok(outcome);
        }
        let cipher = self.store.has_cipher_text(table, "key", workspace).await?;
        Ok(if cipher { CheckOutcome::encrypted() } else { outcome })
    }

    /// Whether a credential belongs to the consumer that was named, if one was.
    async fn with_user(
        &self,
        row: &TextRow,
        user: Option<&str>,
        outcome: CheckOutcome,
    ) -> Result<CheckOutcome> {
        let (Some(user), true) = (user, outcome.is_accepted()) else { return Ok(outcome) };
        let consumer = row_by_id(&self.store, "consumers", id_in(row, "consumer_id")).await?;
        Ok(if consumer.is_some_and(|consumer| self.has_name(&consumer, user)) {
            outcome
        } else {
            CheckOutcome::rejected(
                OutcomeReason::OtherUser,
                "The secret is correct, but it belongs to another consumer.",
            )
        })
    }

    fn has_name(&self, consumer: &TextRow, user: &str) -> bool {
        let own = consumer.get(WORKSPACE).map(|workspace| format!("{workspace}:")).unwrap_or_default();
        ["id", "username", "custom_id"].iter().filter_map(|name| consumer.get(*name)).any(|value| {
            // Blue's texts carry the workspace.
            value == user || value.strip_prefix(&own) == Some(user)
        })
    }

    async fn hmac(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let rows = self.unique("hmacauth_credentials", "username", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            self.with_consumer(row, plain(row.get("secret"), &check.secret)).await
        })
        .await
    }

    async fn jwt(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let token = JwtToken::parse(&check.secret);
        let issuer = token.as_ref().and_then(JwtToken::issuer);
        let rows = match check.user.as_deref().or(issuer) {
            Some(key) => self.unique("jwt_secrets", "key", key, workspace).await?,
            None => {
                let text = Some(("secret", check.secret.as_str()));
                let query = RowQuery {
                    table: "jwt_secrets",
                    columns: CREDENTIAL_COLUMNS,
                    text,
                    workspace,
                    ..RowQuery::default()
                };
                self.store.find(query).await?
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
                Some(token) => jwt_token(row, token),
                None => jwt_secret(row, &check.secret),
            };
            self.with_consumer(row, outcome).await
        })
        .await
    }

    async fn oauth2_client(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let rows = self.unique("oauth2_credentials", "client_id", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            let (row, given) = (row.clone(), check.secret.clone());
            let hashed = row.clone();
            let outcome = on_blocking_thread(move || client_secret(&hashed, &given)).await;
            self.with_consumer(&row, outcome).await
        })
        .await
    }

    async fn oauth2_token(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let columns =
            &["id", "ws_id", "credential_id", "created_at", "expires_in", "authenticated_userid", "ttl"];
        for (column, refresh) in [("access_token", false), ("refresh_token", true)] {
            let text = Some((column, check.secret.as_str()));
            let query = RowQuery {
                table: "oauth2_tokens",
                columns,
                text,
                unique: true,
                workspace,
                ..RowQuery::default()
            };
            let rows = self.store.find(query).await?;
            if let Some(row) = rows.first() {
                return self.issued_token(row, check.user.as_deref(), refresh).await;
            }
        }
        Ok(CheckOutcome::rejected(OutcomeReason::UnknownSecret, "No token has this text."))
    }

    async fn issued_token(&self, row: &TextRow, user: Option<&str>, refresh: bool) -> Result<CheckOutcome> {
        if has_expired(row.get("ttl"), self.now_ms) || (!refresh && is_token_expired(row, self.now_ms)) {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::Expired,
                "The secret is correct, but it has expired.",
            ));
        }
        let client = row_by_id(&self.store, "oauth2_credentials", id_in(row, "credential_id")).await?;
        let Some(client) = client else {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::OwnerMissing,
                "The token is correct, but the client to which it was issued does not exist.",
            ));
        };
        let message =
            if refresh { "The secret is a refresh token." } else { "The secret is an access token." };
        let outcome = self.with_consumer(&client, CheckOutcome::accepted(message)).await?;
        match user {
            Some(user) if row.get("authenticated_userid").map(String::as_str) == Some(user) => Ok(outcome),
            user => self.with_user(&client, user, outcome).await,
        }
    }

    async fn acl(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let consumers = self.consumers(check.user(), workspace).await?;
        self.any(&consumers, unknown_user(check.kind), async |consumer| {
            let Some(id) = id_in(consumer, "id") else { return Ok(unknown_user(check.kind)) };
            let query = RowQuery {
                table: "acls",
                columns: &["group"],
                id: Some(("consumer_id", id)),
                ..RowQuery::default()
            };
            let groups = self.store.find(query).await?;
            let is_member = groups.iter().any(|row| row.get("group") == Some(&check.secret));
            Ok(if is_member {
                CheckOutcome::accepted("The consumer is in this group.")
            } else {
                CheckOutcome::rejected(OutcomeReason::WrongSecret, "The consumer is not in this group.")
            })
        })
        .await
    }

    /// Consumers of that username, custom_id or id.
    async fn consumers(&self, user: &str, workspace: Option<Uuid>) -> Result<Vec<TextRow>> {
        let columns = &["id", "ws_id", "username", "custom_id", "type"];
        for column in ["username", "custom_id"] {
            let text = Some((column, user));
            let query = RowQuery {
                table: "consumers",
                columns,
                text,
                unique: true,
                workspace,
                ..RowQuery::default()
            };
            let rows = self.store.find(query).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        match Uuid::parse_str(user) {
            Ok(id) => {
                let query = RowQuery {
                    table: "consumers",
                    columns,
                    id: Some(("id", id)),
                    workspace,
                    ..RowQuery::default()
                };
                self.store.find(query).await
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn mtls(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
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
                    row_by_id(&self.store, "ca_certificates", id).await?
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

    async fn rbac_token(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let rows = self.rbac_users(check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| Ok(rbac_token(row, &check.secret).await)).await
    }

    /// RBAC users of that name or id.
    async fn rbac_users(&self, name: &str, workspace: Option<Uuid>) -> Result<Vec<TextRow>> {
        let columns = &["id", "ws_id", "name", "user_token", "enabled"];
        let table = "rbac_users";
        let text = Some(("name", name));
        let mut rows = self
            .store
            .find(RowQuery { table, columns, text, unique: true, workspace, ..RowQuery::default() })
            .await?;
        if let (true, Ok(id)) = (rows.is_empty(), Uuid::parse_str(name)) {
            rows = self
                .store
                .find(RowQuery { table, columns, id: Some(("id", id)), workspace, ..RowQuery::default() })
                .await?;
        }
        Ok(rows)
    }

    async fn admin(&self, check: &CredentialCheck) -> Result<CheckOutcome> {
        if !self.store.has_table(admins::TABLE) {
            let message = format!("Kong on {} has no admins.", self.store.side());
            return Ok(CheckOutcome::rejected(OutcomeReason::NoTable, message));
        }
        let workspace = match check.workspace.as_deref() {
            Some(name) => match self.workspace(name).await? {
                Some(found) => Some(found),
                None => return Ok(unknown_workspace(self.store.side())),
            },
            None => None,
        };
        let found = admins::find(&self.store, check.user()).await?;
        if found.is_empty() {
            return self.without_admin(check, workspace.as_ref().map(|(id, _)| *id)).await;
        }
        self.any(&found, unknown_user(check.kind), async |admin| {
            let rows = AdminRows::read(&self.store, admin.clone()).await?;
            let outcome = self.check_admin(check, &rows).await?;
            let own = rows.workspace();
            match (&workspace, own) {
                (Some((query, name)), Some(own)) if *query != own && outcome.is_accepted() => {
                    Ok(other_workspace(name))
                }
                _ => Ok(outcome),
            }
        })
        .await
    }

    /// An admin without an admin row: rejected by the run, or deleted in part.
    async fn without_admin(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let consumers = self.consumers(check.user(), workspace).await?;
        let hidden = consumers.iter().any(|row| row.get("type").is_some_and(|kind| kind != "0"));
        let message = if hidden {
            "A hidden consumer has this name, but no admin."
        } else if !self.rbac_users(check.user(), workspace).await?.is_empty() {
            "An RBAC user has this name, but no admin."
        } else {
            return Ok(unknown_user(check.kind));
        };
        Ok(CheckOutcome::rejected(OutcomeReason::BrokenChain, message))
    }

    async fn check_admin(&self, check: &CredentialCheck, rows: &AdminRows) -> Result<CheckOutcome> {
        let gaps = rows.gaps();
        if let Some(gap) = gaps.first() {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::BrokenChain,
                format!("The admin is incomplete: {gap}."),
            ));
        }
        let disabled = |message: &str| Ok(CheckOutcome::rejected(OutcomeReason::Disabled, message));
        let Some(user) = &rows.rbac_user else { return Ok(unknown_user(check.kind)) };
        if check.kind == CredentialKind::AdminToken {
            let outcome = rbac_token(user, &check.secret).await;
            if outcome.is_accepted()
                && rows.admin.get("rbac_token_enabled").map(String::as_str) == Some("false")
            {
                return disabled(
                    "The token is correct, but this admin may not use a token (rbac_token_enabled).",
                );
            }
            return Ok(outcome);
        }
        if rows.passwords.is_empty() {
            return Ok(CheckOutcome::rejected(
                OutcomeReason::NoSecret,
                "The admin has not set a password yet.",
            ));
        }
        let missing =
            CheckOutcome::rejected(OutcomeReason::NoSecret, "The admin has not set a password yet.");
        let outcome =
            self.any(&rows.passwords, missing, async |row| Ok(basic_auth(row, &check.secret))).await?;
        if outcome.is_accepted() && user.get("enabled").map(String::as_str) == Some("false") {
            return disabled("The password is correct, but the admin's RBAC user is disabled.");
        }
        Ok(outcome)
    }
}

fn table(kind: CredentialKind) -> &'static str {
    CREDENTIAL_TABLES.iter().find(|own| own.kind == kind).map_or(admins::TABLE, |own| own.table)
}

fn other_workspace(name: &str) -> CheckOutcome {
    let message = format!("The secret is correct, but it belongs to another workspace than \"{name}\".");
    CheckOutcome::rejected(OutcomeReason::OtherWorkspace, message)
}

fn may_be_elsewhere(reason: OutcomeReason) -> bool {
    matches!(
        reason,
        OutcomeReason::WrongSecret
            | OutcomeReason::UnknownUser
            | OutcomeReason::UnknownSecret
            | OutcomeReason::OtherUser
    )
}

fn unknown_workspace(side: &str) -> CheckOutcome {
    CheckOutcome::rejected(
        OutcomeReason::UnknownWorkspace,
        format!("The workspace does not exist on {side}."),
    )
}

fn unknown_user(kind: CredentialKind) -> CheckOutcome {
    CheckOutcome::rejected(
        OutcomeReason::UnknownUser,
        format!("The user does not exist (a user is {}).", kind.user_description()),
    )
}

fn has_expired(expiry: Option<&String>, now_ms: i64) -> bool {
    expiry.and_then(|ms| ms.parse::<i64>().ok()).is_some_and(|ms| ms < now_ms)
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
