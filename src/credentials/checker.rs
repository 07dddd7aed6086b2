//! Decides whether one side would accept a secret: rows are found and compared as Kong does it. What belongs to one
//! plugin, or to Enterprise's RBAC, is in the modules beside this one.

use uuid::Uuid;

use super::CredentialCheck;
use super::admins;
use super::kind::{CREDENTIAL_TABLES, CredentialKind};
use super::outcome::{CheckOutcome, OutcomeReason};
use super::store::{CONSUMER_COLUMNS, CredentialStore, RowQuery, TextRow, id_in, row_by_id, rows_named};
use super::stored_secret::{basic_auth, plain};
use crate::error::Result;

/// The workspace of a check that names none.
pub(crate) const DEFAULT_WORKSPACE: &str = "default";

pub(super) const CREDENTIAL_COLUMNS: &[&str] = &[
    "id",
    "ws_id",
    "consumer_id",
    "username",
    "password",
    "key",
    "key_ident",
    "secret",
    "algorithm",
    "rsa_public_key",
    "client_id",
    "client_secret",
    "hash_secret",
    "ttl",
];

/// What depends on the version of Kong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KongRules {
    /// A token of an RBAC user may be stored as a PBKDF2 hash.
    pub(super) has_pbkdf2_tokens: bool,
    /// A key of key-auth-enc is found by its SHA-256, and only then by its SHA-1.
    pub(super) has_sha256_idents: bool,
}

impl KongRules {
    /// Of a line such as `3.2`. An unknown version is taken for a later one.
    pub(super) fn of(line: Option<&str>) -> KongRules {
        KongRules {
            has_pbkdf2_tokens: line != Some("2.8"),
            has_sha256_idents: !matches!(line, Some("2.8" | "3.0")),
        }
    }
}

pub(super) struct CredentialChecker<S> {
    pub(super) store: S,
    pub(super) rules: KongRules,
    /// Milliseconds since 1970; what expires before is expired.
    pub(super) now_ms: i64,
}

type Workspace = (Uuid, String);

impl<S: CredentialStore> CredentialChecker<S> {
    pub(super) async fn check(&self, check: &CredentialCheck) -> Result<CheckOutcome> {
        let table = table(check.kind);
        if !self.store.has_table(table) {
            return Ok(CheckOutcome::no_table(self.store.side(), table));
        }
        if matches!(check.kind, CredentialKind::AdminToken | CredentialKind::AdminPassword) {
            return self.admin(check).await;
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
            CredentialKind::KeyAuth => self.key_auth(check, workspace).await,
            CredentialKind::KeyAuthEnc => self.key_auth_enc(check, workspace).await,
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

    pub(super) async fn workspace(&self, name: &str) -> Result<Option<Workspace>> {
        let query = RowQuery { table: "workspaces", columns: &["id", "name"], ..RowQuery::default() };
        // As in Kong, a text that is an id is no name.
        let mut rows = rows_named(&self.store, query, &[], name).await?;
        if rows.is_empty() {
            rows = rows_named(&self.store, query, &["name"], name).await?;
        }
        Ok(rows
            .first()
            .and_then(|row| Some((id_in(row, "id")?, row.get("name").cloned().unwrap_or_default()))))
    }

    /// Credentials with this text, which is unique within a workspace.
    pub(super) async fn unique(
        &self,
        table: &str,
        column: &str,
        text: &str,
        workspace: Option<Uuid>,
    ) -> Result<Vec<TextRow>> {
        let text = Some((column, text));
        let query = RowQuery { table, columns: CREDENTIAL_COLUMNS, text, ..RowQuery::default() };
        self.store.find(RowQuery { unique: true, workspace, ..query }).await
    }

    /// The best outcome over several rows: one that is accepted is enough.
    pub(super) async fn any<F>(
        &self,
        rows: &[TextRow],
        missing: CheckOutcome,
        check: F,
    ) -> Result<CheckOutcome>
    where
        F: AsyncFn(&TextRow) -> Result<CheckOutcome>,
    {
        let mut best = None;
        for row in rows {
            let outcome = check(row).await?;
            if outcome.is_accepted() {
                return Ok(outcome);
            }
            if best.as_ref().is_none_or(|best| rank(&outcome) > rank(best)) {
                best = Some(outcome);
            }
        }
        Ok(best.unwrap_or(missing))
    }

    /// Kong accepts a correct secret only if it has not expired and its consumer exists.
    pub(super) async fn with_consumer(&self, row: &TextRow, outcome: CheckOutcome) -> Result<CheckOutcome> {
        if !outcome.is_accepted() {
            return Ok(outcome);
        }
        if has_expired(row.get("ttl"), self.now_ms) {
            return Ok(CheckOutcome::expired());
        }
        Ok(if self.consumer_of(row).await?.is_some() {
            outcome
        } else {
            CheckOutcome::rejected(
                OutcomeReason::OwnerMissing,
                "The secret is correct, but its consumer does not exist.",
            )
        })
    }

    async fn consumer_of(&self, row: &TextRow) -> Result<Option<TextRow>> {
        row_by_id(&self.store, "consumers", CONSUMER_COLUMNS, id_in(row, "consumer_id")).await
    }

    /// Whether a credential belongs to the consumer that was named, if one was.
    pub(super) async fn with_user(
        &self,
        row: &TextRow,
        user: Option<&str>,
        outcome: CheckOutcome,
    ) -> Result<CheckOutcome> {
        let (Some(user), true) = (user, outcome.is_accepted()) else { return Ok(outcome) };
        let consumer = self.consumer_of(row).await?.unwrap_or_default();
        let has_name = ["id", "username", "custom_id"]
            .iter()
            .any(|name| consumer.get(*name).map(String::as_str) == Some(user));
        Ok(if has_name {
            outcome
        } else {
            CheckOutcome::rejected(
                OutcomeReason::OtherUser,
                "The secret is correct, but it belongs to another consumer.",
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

    async fn hmac(&self, check: &CredentialCheck, workspace: Option<Uuid>) -> Result<CheckOutcome> {
        let rows = self.unique("hmacauth_credentials", "username", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            self.with_consumer(row, plain(row.get("secret"), &check.secret)).await
        })
        .await
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
    pub(super) async fn consumers(&self, user: &str, workspace: Option<Uuid>) -> Result<Vec<TextRow>> {
        let query = RowQuery { table: "consumers", columns: CONSUMER_COLUMNS, ..RowQuery::default() };
        let query = RowQuery { unique: true, workspace, ..query };
        rows_named(&self.store, query, &["username", "custom_id"], user).await
    }
}

/// What Kong may accept comes before what it does not, and any other reason says more than that the secret is another.
fn rank(outcome: &CheckOutcome) -> u8 {
    match (outcome.accepted, outcome.reason) {
        (Some(true), _) => 3,
        (None, _) => 2,
        (_, OutcomeReason::WrongSecret | OutcomeReason::UnknownSecret) => 0,
        _ => 1,
    }
}

fn table(kind: CredentialKind) -> &'static str {
    CREDENTIAL_TABLES.iter().find(|own| own.kind == kind).map_or(admins::TABLE, |own| own.table)
}

pub(super) fn other_workspace(name: &str) -> CheckOutcome {
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

pub(super) fn unknown_workspace(side: &str) -> CheckOutcome {
    CheckOutcome::rejected(
        OutcomeReason::UnknownWorkspace,
        format!("The workspace does not exist on {side}."),
    )
}

pub(super) fn unknown_user(kind: CredentialKind) -> CheckOutcome {
    CheckOutcome::rejected(
        OutcomeReason::UnknownUser,
        format!("The user does not exist (a user is {}).", kind.user_description()),
    )
}

pub(super) fn has_expired(expiry: Option<&String>, now_ms: i64) -> bool {
    expiry.and_then(|ms| ms.parse::<i64>().ok()).is_some_and(|ms| ms < now_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_decides_which_hashes_kong_knows() {
        let rules = |line| {
            let rules = KongRules::of(line);
            (rules.has_pbkdf2_tokens, rules.has_sha256_idents)
        };
        assert_eq!(rules(Some("2.8")), (false, false));
        assert_eq!(rules(Some("3.0")), (true, false));
        for line in ["3.1", "3.2", "3.3"] {
            assert_eq!(rules(Some(line)), (true, true));
        }
        assert_eq!(rules(None), (true, true));
    }
}
