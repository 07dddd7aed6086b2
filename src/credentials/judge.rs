//! Whether one side would accept a secret: the row is found as Kong finds it, and judged as Kong judges it.

use uuid::Uuid;

use super::Check;
use super::admins::{self, Chain};
use super::keys::{self, Token};
use super::kind::Kind;
use super::store::{Row, Store, WORKSPACE, Wanted};
use super::stored::{basic_auth, client_secret, jwt_secret, jwt_token, on_a_core, plain, rbac_token};
use super::verdict::{Reason, Verdict};
use crate::error::Result;

/// The workspace that is meant where none is named.
pub const DEFAULT: &str = "default";

/// A table of keys that are looked up by themselves.
const CREDENTIAL: &[&str] = &[
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

/// One side, ready to be asked.
pub struct Judge<S> {
    /// Where rows are found.
    pub store: S,
    /// Milliseconds since 1970: what ends before is over.
    pub now_ms: i64,
}

/// A workspace: its id and name.
type Workspace = (Uuid, String);

impl<S: Store> Judge<S> {
    /// Answers one check.
    pub async fn judge(&self, check: &Check) -> Result<Verdict> {
        if matches!(check.kind, Kind::AdminToken | Kind::AdminPassword) {
            return self.admin(check).await;
        }
        let table = table(check.kind);
        if !self.store.has(table) {
            let message = format!("Kong on {} has no table \"{table}\".", self.store.side());
            return Ok(Verdict::refused(Reason::NoTable, message));
        }
        let Some(workspace) = self.workspace(check.workspace.as_deref().unwrap_or(DEFAULT)).await? else {
            return Ok(unknown_workspace(self.store.side()));
        };
        let here = self.within(check, Some(workspace.0)).await?;
        if here.is_accepted() || here.accepted.is_none() || !may_be_elsewhere(here.reason) {
            return Ok(here);
        }
        // What does not open the door here may open another one: the most common slip of all.
        let anywhere = self.within(check, None).await?;
        if anywhere.is_accepted() {
            let message = format!("It is the right one, but of another workspace than \"{}\".", workspace.1);
            return Ok(Verdict::refused(Reason::OtherWorkspace, message));
        }
        Ok(here)
    }

    /// Judges within a workspace, or within all of them.
    async fn within(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        match check.kind {
            Kind::BasicAuth => self.basic_auth(check, workspace).await,
            Kind::KeyAuth => self.key(check, "keyauth_credentials", workspace).await,
            Kind::KeyAuthEnc => self.key(check, "keyauth_enc_credentials", workspace).await,
            Kind::HmacAuth => self.hmac(check, workspace).await,
            Kind::Jwt => self.jwt(check, workspace).await,
            Kind::Oauth2Client => self.client(check, workspace).await,
            Kind::Oauth2Token => self.token(check, workspace).await,
            Kind::Acl => self.acl(check, workspace).await,
            Kind::Mtls => self.mtls(check, workspace).await,
            Kind::RbacToken => self.rbac_token(check, workspace).await,
            Kind::AdminToken | Kind::AdminPassword => self.admin(check).await,
        }
    }

    async fn workspace(&self, name: &str) -> Result<Option<Workspace>> {
        let columns = &["id", "name"];
        let table = "workspaces";
        let mut rows = Vec::new();
        // As Kong: what looks like an id is one, whatever another workspace may be called.
        if let Ok(id) = Uuid::parse_str(name) {
            let by_id = Wanted { table, columns, id: Some(("id", id)), ..Wanted::default() };
            rows = self.store.find(by_id).await?;
        }
        if rows.is_empty() {
            let by_name = Wanted { table, columns, text: Some(("name", name)), ..Wanted::default() };
            rows = self.store.find(by_name).await?;
        }
        Ok(rows
            .first()
            .and_then(|row| Some((id_of(row, "id")?, row.get("name").cloned().unwrap_or_default()))))
    }

    /// Rows with this unique text.
    async fn unique(
        &self,
        table: &str,
        column: &str,
        text: &str,
        workspace: Option<Uuid>,
    ) -> Result<Vec<Row>> {
        let text = Some((column, text));
        self.store
            .find(Wanted { table, columns: CREDENTIAL, text, unique: true, workspace, ..Wanted::default() })
            .await
    }

    /// The best verdict over several rows: one that opens the door is enough.
    async fn any<F>(&self, rows: &[Row], missing: Verdict, judge: F) -> Result<Verdict>
    where
        F: AsyncFn(&Row) -> Result<Verdict>,
    {
        let mut best = None;
        for row in rows {
            let verdict = judge(row).await?;
            if verdict.is_accepted() {
                return Ok(verdict);
            }
            // What says more about the right secret weighs more than that it is the wrong one.
            let weight = |verdict: &Verdict| verdict.reason != Reason::WrongSecret;
            if best.as_ref().is_none_or(|best| weight(&verdict) && !weight(best)) {
                best = Some(verdict);
            }
        }
        Ok(best.unwrap_or(missing))
    }

    /// The right secret opens the door only while its consumer is there.
    async fn owned(&self, row: &Row, verdict: Verdict) -> Result<Verdict> {
        if !verdict.is_accepted() {
            return Ok(verdict);
        }
        if is_over(row.get("ttl"), self.now_ms) {
            return Ok(Verdict::refused(Reason::Expired, "It is the right one, but its time has run out."));
        }
        let consumer = match id_of(row, "consumer_id") {
            Some(id) => self.by_id("consumers", id).await?,
            None => None,
        };
        Ok(if consumer.is_some() {
            verdict
        } else {
            Verdict::refused(Reason::OwnerMissing, "It is the right one, but its consumer does not exist.")
        })
    }

    /// A row by its id.
    pub(super) async fn by_id(&self, table: &str, id: Uuid) -> Result<Option<Row>> {
        let columns = &[
            "id",
            "ws_id",
            "username",
            "custom_id",
            "type",
            "name",
            "user_token",
            "enabled",
            "consumer_id",
            "cert",
            "client_id",
        ];
        let rows =
            self.store.find(Wanted { table, columns, id: Some(("id", id)), ..Wanted::default() }).await?;
        Ok(rows.into_iter().next())
    }

    async fn basic_auth(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let rows = self.unique("basicauth_credentials", "username", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            self.owned(row, basic_auth(row, &check.secret)).await
        })
        .await
    }

    async fn key(&self, check: &Check, table: &str, workspace: Option<Uuid>) -> Result<Verdict> {
        let rows = self.unique(table, "key", &check.secret, workspace).await?;
        let missing = Verdict::refused(Reason::UnknownSecret, "No credential has this key.");
        let verdict = self
            .any(&rows, missing, async |row| {
                let verdict = self.owned(row, Verdict::accepted("A credential has this key.")).await?;
                self.of_user(row, check.user.as_deref(), verdict).await
            })
            .await?;
        if verdict.reason != Reason::UnknownSecret || check.kind != Kind::KeyAuthEnc || workspace.is_none() {
            return Ok(verdict);
        }
        let cipher = self.store.holds_cipher_text(table, "key", workspace).await?;
        Ok(if cipher { Verdict::encrypted() } else { verdict })
    }

    /// Whether a credential belongs to the consumer that was named, if one was.
    async fn of_user(&self, row: &Row, user: Option<&str>, verdict: Verdict) -> Result<Verdict> {
        let (Some(user), true) = (user, verdict.is_accepted()) else { return Ok(verdict) };
        let consumer = match id_of(row, "consumer_id") {
            Some(id) => self.by_id("consumers", id).await?,
            None => None,
        };
        Ok(if consumer.is_some_and(|consumer| self.is_called(&consumer, user)) {
            verdict
        } else {
            Verdict::refused(Reason::OtherUser, "It is the right one, but of another consumer.")
        })
    }

    fn is_called(&self, consumer: &Row, user: &str) -> bool {
        let own = consumer.get(WORKSPACE).map(|workspace| format!("{workspace}:")).unwrap_or_default();
        ["id", "username", "custom_id"].iter().filter_map(|name| consumer.get(*name)).any(|value| {
            // Blue's texts carry the workspace in front.
            value == user || value.strip_prefix(&own) == Some(user)
        })
    }

    async fn hmac(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let rows = self.unique("hmacauth_credentials", "username", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            self.owned(row, plain(row.get("secret"), &check.secret)).await
        })
        .await
    }

    async fn jwt(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let token = Token::parse(&check.secret);
        let issuer = token.as_ref().and_then(Token::issuer);
        let rows = match check.user.as_deref().or(issuer) {
            Some(key) => self.unique("jwt_secrets", "key", key, workspace).await?,
            None => {
                let text = Some(("secret", check.secret.as_str()));
                let wanted = Wanted {
                    table: "jwt_secrets",
                    columns: CREDENTIAL,
                    text,
                    workspace,
                    ..Wanted::default()
                };
                self.store.find(wanted).await?
            }
        };
        let missing = match (&check.user, issuer) {
            (Some(_), _) => unknown_user(check.kind),
            (None, Some(_)) => {
                Verdict::refused(Reason::UnknownUser, "No credential has the token's iss as its key.")
            }
            (None, None) => Verdict::refused(Reason::UnknownSecret, "No credential has this secret."),
        };
        self.any(&rows, missing, async |row| {
            let verdict = match &token {
                Some(token) => jwt_token(row, token),
                None => jwt_secret(row, &check.secret),
            };
            self.owned(row, verdict).await
        })
        .await
    }

    async fn client(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let rows = self.unique("oauth2_credentials", "client_id", check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| {
            let (row, given) = (row.clone(), check.secret.clone());
            let hashed = row.clone();
            let verdict = on_a_core(move || client_secret(&hashed, &given)).await;
            self.owned(&row, verdict).await
        })
        .await
    }

    async fn token(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let columns =
            &["id", "ws_id", "credential_id", "created_at", "expires_in", "authenticated_userid", "ttl"];
        for (column, refresh) in [("access_token", false), ("refresh_token", true)] {
            let text = Some((column, check.secret.as_str()));
            let wanted = Wanted {
                table: "oauth2_tokens",
                columns,
                text,
                unique: true,
                workspace,
                ..Wanted::default()
            };
            let rows = self.store.find(wanted).await?;
            if let Some(row) = rows.first() {
                return self.living_token(row, check.user.as_deref(), refresh).await;
            }
        }
        Ok(Verdict::refused(Reason::UnknownSecret, "There is no such token."))
    }

    async fn living_token(&self, row: &Row, user: Option<&str>, refresh: bool) -> Result<Verdict> {
        if is_over(row.get("ttl"), self.now_ms) || (!refresh && token_is_over(row, self.now_ms)) {
            return Ok(Verdict::refused(Reason::Expired, "It is the right one, but its time has run out."));
        }
        let client = match id_of(row, "credential_id") {
            Some(id) => self.by_id("oauth2_credentials", id).await?,
            None => None,
        };
        let Some(client) = client else {
            return Ok(Verdict::refused(
                Reason::OwnerMissing,
                "The client that it was issued to does not exist.",
            ));
        };
        let message = if refresh { "It is a refresh token." } else { "It is an access token." };
        let verdict = self.owned(&client, Verdict::accepted(message)).await?;
        match user {
            Some(user) if row.get("authenticated_userid").map(String::as_str) == Some(user) => Ok(verdict),
            user => self.of_user(&client, user, verdict).await,
        }
    }

    async fn acl(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let consumers = self.consumers(check.user(), workspace).await?;
        self.any(&consumers, unknown_user(check.kind), async |consumer| {
            let Some(id) = id_of(consumer, "id") else { return Ok(unknown_user(check.kind)) };
            let wanted = Wanted {
                table: "acls",
                columns: &["group"],
                id: Some(("consumer_id", id)),
                ..Wanted::default()
            };
            let groups = self.store.find(wanted).await?;
            let is_member = groups.iter().any(|row| row.get("group") == Some(&check.secret));
            Ok(if is_member {
                Verdict::accepted("The consumer is in this group.")
            } else {
                Verdict::refused(Reason::WrongSecret, "The consumer is not in this group.")
            })
        })
        .await
    }

    /// Consumers of that username, custom_id or id.
    async fn consumers(&self, user: &str, workspace: Option<Uuid>) -> Result<Vec<Row>> {
        let columns = &["id", "ws_id", "username", "custom_id", "type"];
        for column in ["username", "custom_id"] {
            let text = Some((column, user));
            let wanted =
                Wanted { table: "consumers", columns, text, unique: true, workspace, ..Wanted::default() };
            let rows = self.store.find(wanted).await?;
            if !rows.is_empty() {
                return Ok(rows);
            }
        }
        match Uuid::parse_str(user) {
            Ok(id) => {
                let wanted = Wanted {
                    table: "consumers",
                    columns,
                    id: Some(("id", id)),
                    workspace,
                    ..Wanted::default()
                };
                self.store.find(wanted).await
            }
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn mtls(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let certificate = keys::names_of_certificate(&check.secret);
        let names = certificate.clone().unwrap_or_else(|| vec![check.secret.clone()]);
        let columns = &["id", "ws_id", "consumer_id", "subject_name", "ca_certificate_id"];
        let mut rows = Vec::new();
        for name in &names {
            let text = Some(("subject_name", name.as_str()));
            let table = "mtls_auth_credentials";
            rows.extend(
                self.store.find(Wanted { table, columns, text, workspace, ..Wanted::default() }).await?,
            );
        }
        let missing = Verdict::refused(Reason::UnknownSecret, "No credential has this subject name.");
        self.any(&rows, missing, async |row| {
            let authority = match id_of(row, "ca_certificate_id") {
                Some(id) if certificate.is_some() => self.by_id("ca_certificates", id).await?,
                _ => None,
            };
            let signed = authority.as_ref().and_then(|row| row.get("cert"));
            let verdict = match signed.map(|authority| keys::is_signed_by(&check.secret, authority)) {
                None | Some(Some(true)) => Verdict::accepted("A credential has this subject name."),
                Some(Some(false)) => Verdict::refused(
                    Reason::WrongSecret,
                    "A credential has this subject name, but the certificate is not signed by its authority.",
                ),
                Some(None) => {
                    Verdict::open(Reason::Undecidable, "The authority's certificate cannot be read.")
                }
            };
            let verdict = self.owned(row, verdict).await?;
            self.of_user(row, check.user.as_deref(), verdict).await
        })
        .await
    }

    async fn rbac_token(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let rows = self.rbac_users(check.user(), workspace).await?;
        self.any(&rows, unknown_user(check.kind), async |row| Ok(rbac_token(row, &check.secret).await)).await
    }

    /// RBAC users of that name or id.
    async fn rbac_users(&self, name: &str, workspace: Option<Uuid>) -> Result<Vec<Row>> {
        let columns = &["id", "ws_id", "name", "user_token", "enabled"];
        let table = "rbac_users";
        let text = Some(("name", name));
        let mut rows = self
            .store
            .find(Wanted { table, columns, text, unique: true, workspace, ..Wanted::default() })
            .await?;
        if let (true, Ok(id)) = (rows.is_empty(), Uuid::parse_str(name)) {
            rows = self
                .store
                .find(Wanted { table, columns, id: Some(("id", id)), workspace, ..Wanted::default() })
                .await?;
        }
        Ok(rows)
    }

    async fn admin(&self, check: &Check) -> Result<Verdict> {
        if !self.store.has(admins::TABLE) {
            let message = format!("Kong on {} has no admins.", self.store.side());
            return Ok(Verdict::refused(Reason::NoTable, message));
        }
        let workspace = match check.workspace.as_deref() {
            Some(name) => match self.workspace(name).await? {
                Some(found) => Some(found),
                None => return Ok(unknown_workspace(self.store.side())),
            },
            None => None,
        };
        let found = admins::find(self, check.user()).await?;
        if found.is_empty() {
            return self.without_admin(check, workspace.as_ref().map(|(id, _)| *id)).await;
        }
        self.any(&found, unknown_user(check.kind), async |admin| {
            let chain = Chain::of(self, admin.clone()).await?;
            let verdict = self.chained(check, &chain).await?;
            let own = chain.workspace();
            match (&workspace, own) {
                (Some((wanted, name)), Some(own)) if *wanted != own && verdict.is_accepted() => {
                    let message = format!("It is the right one, but of another workspace than \"{name}\".");
                    Ok(Verdict::refused(Reason::OtherWorkspace, message))
                }
                _ => Ok(verdict),
            }
        })
        .await
    }

    /// An admin that is not there, while parts of it may be: it stayed behind, or somebody deleted it by halves.
    async fn without_admin(&self, check: &Check, workspace: Option<Uuid>) -> Result<Verdict> {
        let consumers = self.consumers(check.user(), workspace).await?;
        let hidden = consumers.iter().any(|row| row.get("type").is_some_and(|kind| kind != "0"));
        let message = if hidden {
            "There is a hidden consumer of this name, but no admin."
        } else if !self.rbac_users(check.user(), workspace).await?.is_empty() {
            "There is an RBAC user of this name, but no admin."
        } else {
            return Ok(unknown_user(check.kind));
        };
        Ok(Verdict::refused(Reason::BrokenChain, message))
    }

    async fn chained(&self, check: &Check, chain: &Chain) -> Result<Verdict> {
        let gaps = chain.gaps();
        if let Some(gap) = gaps.first() {
            return Ok(Verdict::refused(Reason::BrokenChain, format!("The admin is not whole: {gap}.")));
        }
        let disabled = |message: &str| Ok(Verdict::refused(Reason::Disabled, message));
        let Some(user) = &chain.rbac_user else { return Ok(unknown_user(check.kind)) };
        if check.kind == Kind::AdminToken {
            let verdict = rbac_token(user, &check.secret).await;
            if verdict.is_accepted()
                && chain.admin.get("rbac_token_enabled").map(String::as_str) == Some("false")
            {
                return disabled(
                    "It is the right one, but this admin may not use a token (rbac_token_enabled).",
                );
            }
            return Ok(verdict);
        }
        if chain.passwords.is_empty() {
            return Ok(Verdict::refused(Reason::NoSecret, "The admin has not set a password yet."));
        }
        let missing = Verdict::refused(Reason::NoSecret, "The admin has not set a password yet.");
        let verdict =
            self.any(&chain.passwords, missing, async |row| Ok(basic_auth(row, &check.secret))).await?;
        if verdict.is_accepted() && user.get("enabled").map(String::as_str) == Some("false") {
            return disabled("It is the right one, but the admin's RBAC user is switched off.");
        }
        Ok(verdict)
    }
}

fn table(kind: Kind) -> &'static str {
    super::kind::PLACES.iter().find(|place| place.kind == kind).map_or(admins::TABLE, |place| place.table)
}

fn may_be_elsewhere(reason: Reason) -> bool {
    matches!(reason, Reason::WrongSecret | Reason::UnknownUser | Reason::UnknownSecret | Reason::OtherUser)
}

fn unknown_workspace(side: &str) -> Verdict {
    Verdict::refused(Reason::UnknownWorkspace, format!("There is no such workspace on {side}."))
}

fn unknown_user(kind: Kind) -> Verdict {
    Verdict::refused(Reason::UnknownUser, format!("There is no such user (looked up by {}).", kind.user_is()))
}

/// An id in a row.
pub(super) fn id_of(row: &Row, column: &str) -> Option<Uuid> {
    Uuid::parse_str(row.get(column)?).ok()
}

fn is_over(expiry: Option<&String>, now_ms: i64) -> bool {
    expiry.and_then(|ms| ms.parse::<i64>().ok()).is_some_and(|ms| ms < now_ms)
}

/// An access token lives as long as it was issued for, counted from its creation; 0 is for ever.
fn token_is_over(row: &Row, now_ms: i64) -> bool {
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

    fn token(created_ms: i64, seconds: i64) -> Row {
        let columns = [("created_at", created_ms), ("expires_in", seconds)];
        columns.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect()
    }

    #[test]
    fn a_token_lives_from_its_creation_and_one_of_no_length_for_ever() {
        assert!(!token_is_over(&token(1_000, 10), 11_000));
        assert!(token_is_over(&token(1_000, 10), 11_001));
        assert!(!token_is_over(&token(1_000, 0), i64::MAX));
        assert!(!token_is_over(&Row::new(), i64::MAX));
    }
}
