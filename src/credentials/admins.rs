//! Admins of Enterprise. An admin is several rows – admin, consumer, RBAC user, roles, password – and works only if all
//! of them exist (docs/enterprise.md).

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;
use uuid::Uuid;

use super::store::{
    CONSUMER_COLUMNS, CredentialStore, RowQuery, TextRow, WORKSPACE, id_in, row_by_id, rows_named,
};
use crate::error::Result;

pub(super) const TABLE: &str = "admins";

const COLUMNS: &[&str] = &["id", "username", "custom_id", "email", "consumer_id", "rbac_user_id", "status"];

pub(super) const RBAC_USER_COLUMNS: &[&str] =
    &["id", "ws_id", "name", "user_token", "user_token_ident", "enabled"];

/// `consumers.type` of the hidden consumer of an admin.
const ADMIN_TYPE: &str = "2";

/// Admins that are read at the same time.
const PARALLEL: usize = 16;

/// What `admins.status` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdminStatus {
    Approved,
    Pending,
    Rejected,
    Revoked,
    Invited,
    Unverified,
    /// A number that Kong does not write.
    Unknown,
}

impl AdminStatus {
    /// Null, as of the first super admin, reads as invited.
    fn of(admin: &TextRow) -> AdminStatus {
        match admin.get("status").map(String::as_str) {
            Some("0") => AdminStatus::Approved,
            Some("1") => AdminStatus::Pending,
            Some("2") => AdminStatus::Rejected,
            Some("3") => AdminStatus::Revoked,
            Some("4") | None => AdminStatus::Invited,
            Some("5") => AdminStatus::Unverified,
            Some(_) => AdminStatus::Unknown,
        }
    }

    /// Kong Manager approves an invited admin at the first login, and refuses all others that are not approved.
    pub(crate) fn may_log_in(self) -> bool {
        matches!(self, AdminStatus::Approved | AdminStatus::Invited)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            AdminStatus::Approved => "approved",
            AdminStatus::Pending => "pending",
            AdminStatus::Rejected => "rejected",
            AdminStatus::Revoked => "revoked",
            AdminStatus::Invited => "invited",
            AdminStatus::Unverified => "unverified",
            AdminStatus::Unknown => "unknown",
        }
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct AdminRows {
    pub(super) admin: TextRow,
    /// The hidden consumer, to which the password belongs.
    pub(super) consumer: Option<TextRow>,
    /// The RBAC user, to which token and roles belong.
    pub(super) rbac_user: Option<TextRow>,
    pub(super) roles: Vec<TextRow>,
    /// The number of assigned roles that do not exist.
    missing_roles: usize,
    /// Workspaces of consumer and RBAC user that exist. They differ for an admin of before Enterprise 2.1.
    pub(super) workspaces: Vec<Uuid>,
}

/// Admins of that username in any case, custom_id, email or id.
pub(super) async fn find(store: &impl CredentialStore, name: &str) -> Result<Vec<TextRow>> {
    let query = RowQuery { table: TABLE, columns: COLUMNS, ..RowQuery::default() };
    for any_case in [false, true] {
        let rows = store.find(RowQuery { text: Some(("username", name)), any_case, ..query }).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    rows_named(store, query, &["custom_id", "email"], name).await
}

pub(super) async fn all(store: &impl CredentialStore) -> Result<Vec<AdminRows>> {
    let rows = store.find(RowQuery { table: TABLE, columns: COLUMNS, ..RowQuery::default() }).await?;
    let admins = futures::stream::iter(rows.into_iter().map(|row| AdminRows::read(store, row)));
    let mut admins: Vec<AdminRows> = admins.buffered(PARALLEL).try_collect().await?;
    admins.sort_by_key(AdminRows::name);
    Ok(admins)
}

impl AdminRows {
    /// Reads the rows to which an admin refers.
    pub(super) async fn read(store: &impl CredentialStore, admin: TextRow) -> Result<AdminRows> {
        let mut rows = AdminRows { admin, ..AdminRows::default() };
        let (consumer, user) = (id_in(&rows.admin, "consumer_id"), id_in(&rows.admin, "rbac_user_id"));
        rows.consumer = row_by_id(store, "consumers", CONSUMER_COLUMNS, consumer).await?;
        rows.rbac_user = row_by_id(store, "rbac_users", RBAC_USER_COLUMNS, user).await?;
        rows.read_roles(store, user).await?;
        for workspace in [&rows.rbac_user, &rows.consumer].map(|row| id_in(row.as_ref()?, WORKSPACE)) {
            let row = row_by_id(store, "workspaces", &["id"], workspace).await?;
            rows.workspaces.extend(row.and_then(|row| id_in(&row, "id")));
        }
        Ok(rows)
    }

    async fn read_roles(&mut self, store: &impl CredentialStore, user: Option<Uuid>) -> Result<()> {
        let Some(user) = user else { return Ok(()) };
        let query = RowQuery { table: "rbac_user_roles", columns: &["role_id"], ..RowQuery::default() };
        for assignment in store.find(RowQuery { id: Some(("user_id", user)), ..query }).await? {
            let role = id_in(&assignment, "role_id");
            match row_by_id(store, "rbac_roles", &["id", "ws_id", "name"], role).await? {
                Some(role) => self.roles.push(role),
                None => self.missing_roles += 1,
            }
        }
        Ok(())
    }

    /// The row with the password, as the login finds it: by the username as it is typed, in the consumer's workspace.
    pub(super) async fn password(
        &self,
        store: &impl CredentialStore,
        username: &str,
    ) -> Result<Option<TextRow>> {
        let workspace = self.consumer.as_ref().and_then(|row| id_in(row, WORKSPACE));
        if workspace.is_none() {
            return Ok(None);
        }
        let query = RowQuery {
            table: "basicauth_credentials",
            columns: &["id", "ws_id", "username", "password", "consumer_id"],
            text: Some(("username", username)),
            unique: true,
            workspace,
            ..RowQuery::default()
        };
        Ok(store.find(query).await?.into_iter().next())
    }

    /// The username of a login: a name as it is typed, if it is the username in another case.
    pub(super) fn username<'n>(&'n self, name: &'n str) -> &'n str {
        match self.admin.get("username") {
            Some(own) if own.to_lowercase() != name.to_lowercase() => own,
            _ => name,
        }
    }

    /// Whether a row belongs to the admin's consumer.
    pub(super) fn owns(&self, credential: &TextRow) -> bool {
        credential.get("consumer_id") == self.admin.get("consumer_id")
    }

    pub(super) fn status(&self) -> AdminStatus {
        AdminStatus::of(&self.admin)
    }

    /// The first of username, custom_id, email and id.
    pub(super) fn name(&self) -> String {
        let name = ["username", "custom_id", "email", "id"].iter().find_map(|name| self.admin.get(*name));
        name.cloned().unwrap_or_default()
    }

    /// Why the admin does not work, one clause each.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (column, row, name) in
            [("consumer_id", &self.consumer, "consumer"), ("rbac_user_id", &self.rbac_user, "RBAC user")]
        {
            match (row, self.admin.get(column)) {
                (None, Some(id)) => gaps.push(format!("its {name} {id} does not exist")),
                (None, None) => gaps.push(format!("it has no {name}")),
                (Some(row), _) if !id_in(row, WORKSPACE).is_some_and(|id| self.workspaces.contains(&id)) => {
                    gaps.push(format!("the workspace of its {name} does not exist"));
                }
                _ => {}
            }
        }
        let kind = self.consumer.as_ref().map(|row| row.get("type").map_or("0", String::as_str));
        if let Some(kind) = kind.filter(|kind| *kind != ADMIN_TYPE) {
            gaps.push(format!("its consumer is of type {kind}, that of an admin is {ADMIN_TYPE}"));
        }
        if self.rbac_user.is_some() && self.roles.is_empty() {
            gaps.push(if self.missing_roles > 0 {
                "none of its roles exists".to_owned()
            } else {
                "it has no role".to_owned()
            });
        }
        gaps
    }

    /// The gaps, and what is missing of an admin that works.
    pub(super) fn all_gaps(&self) -> Vec<String> {
        let mut gaps = self.gaps();
        if !self.roles.is_empty() && self.missing_roles > 0 {
            gaps.push(format!("{} of its roles do not exist", self.missing_roles));
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[(&str, &str)]) -> TextRow {
        columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const WS: &str = "173bad7e-414c-5bf1-9582-bde3c54692fe";

    fn complete() -> AdminRows {
        AdminRows {
            admin: row(&[("username", "Dora.Two"), ("consumer_id", "c"), ("rbac_user_id", "u")]),
            consumer: Some(row(&[("ws_id", WS), ("type", "2")])),
            rbac_user: Some(row(&[("ws_id", WS)])),
            roles: vec![row(&[("name", "super-admin")])],
            missing_roles: 0,
            workspaces: vec![Uuid::parse_str(WS).unwrap()],
        }
    }

    #[test]
    fn approved_and_invited_admins_log_in_and_null_is_invited() {
        let status = |number: Option<&str>| {
            AdminStatus::of(&number.map(|number| row(&[("status", number)])).unwrap_or_default())
        };
        for number in [Some("0"), Some("4"), None] {
            assert!(status(number).may_log_in(), "{number:?}");
        }
        for number in ["1", "2", "3", "5", "6", "-1"] {
            assert!(!status(Some(number)).may_log_in(), "{number}");
        }
        assert_eq!(status(Some("3")).name(), "revoked");
    }

    #[test]
    fn every_missing_part_of_an_admin_is_named() {
        assert_eq!(complete().all_gaps(), Vec::<String>::new());
        let changed = |change: fn(&mut AdminRows)| {
            let mut rows = complete();
            change(&mut rows);
            rows.gaps()
        };
        assert_eq!(changed(|rows| rows.consumer = None), ["its consumer c does not exist"]);
        assert_eq!(changed(|rows| rows.rbac_user = None), ["its RBAC user u does not exist"]);
        assert_eq!(changed(|rows| rows.roles.clear()), ["it has no role"]);
        assert_eq!(
            changed(|rows| rows.workspaces.clear()),
            ["the workspace of its consumer does not exist", "the workspace of its RBAC user does not exist"]
        );
        let proxy = changed(|rows| rows.consumer = Some(row(&[("ws_id", WS)])));
        assert_eq!(proxy, ["its consumer is of type 0, that of an admin is 2"]);
        let one_lost = AdminRows { missing_roles: 1, ..complete() };
        assert_eq!(one_lost.gaps(), Vec::<String>::new(), "the other role is enough for a login");
        assert_eq!(one_lost.all_gaps(), ["1 of its roles do not exist"]);
    }

    #[test]
    fn a_login_uses_the_username_as_it_is_typed() {
        let rows = complete();
        assert_eq!(rows.username("dora.two"), "dora.two", "Kong compares its case with the password's row");
        assert_eq!(rows.username("dora@example.com"), "Dora.Two");
    }
}
