//! Admins of Enterprise. An admin is several rows – admin, consumer, RBAC user, roles, password – and works only if all
//! of them exist (docs/enterprise.md).

use uuid::Uuid;

use super::store::{CredentialStore, RowQuery, TextRow, id_in, row_by_id};
use crate::error::Result;

pub(super) const TABLE: &str = "admins";

const COLUMNS: &[&str] =
    &["id", "username", "custom_id", "email", "consumer_id", "rbac_user_id", "rbac_token_enabled", "status"];

#[derive(Debug, Clone, Default)]
pub(super) struct AdminRows {
    pub(super) admin: TextRow,
    /// The hidden consumer, to which the password belongs.
    pub(super) consumer: Option<TextRow>,
    /// The RBAC user, to which token and roles belong.
    pub(super) rbac_user: Option<TextRow>,
    pub(super) roles: Vec<TextRow>,
    /// The number of assigned roles that do not exist.
    pub(super) missing_roles: usize,
    pub(super) passwords: Vec<TextRow>,
}

/// Admins of that username, custom_id, email or id.
pub(super) async fn find(store: &impl CredentialStore, name: &str) -> Result<Vec<TextRow>> {
    for column in ["username", "custom_id", "email"] {
        let text = Some((column, name));
        let rows =
            store.find(RowQuery { table: TABLE, columns: COLUMNS, text, ..RowQuery::default() }).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    match Uuid::parse_str(name) {
        Ok(id) => {
            let id = Some(("id", id));
            store.find(RowQuery { table: TABLE, columns: COLUMNS, id, ..RowQuery::default() }).await
        }
        Err(_) => Ok(Vec::new()),
    }
}

pub(super) async fn all(store: &impl CredentialStore) -> Result<Vec<AdminRows>> {
    let rows = store.find(RowQuery { table: TABLE, columns: COLUMNS, ..RowQuery::default() }).await?;
    let mut admins = Vec::with_capacity(rows.len());
    for row in rows {
        admins.push(AdminRows::read(store, row).await?);
    }
    admins.sort_by_key(AdminRows::name);
    Ok(admins)
}

impl AdminRows {
    /// Reads the rows to which an admin refers.
    pub(super) async fn read(store: &impl CredentialStore, admin: TextRow) -> Result<AdminRows> {
        let mut rows = AdminRows { admin, ..AdminRows::default() };
        if let Some(consumer) = id_in(&rows.admin, "consumer_id") {
            rows.consumer = row_by_id(store, "consumers", Some(consumer)).await?;
            let query = RowQuery {
                table: "basicauth_credentials",
                columns: &["id", "ws_id", "username", "password", "consumer_id"],
                id: Some(("consumer_id", consumer)),
                ..RowQuery::default()
            };
            rows.passwords = store.find(query).await?;
        }
        if let Some(user) = id_in(&rows.admin, "rbac_user_id") {
            rows.rbac_user = row_by_id(store, "rbac_users", Some(user)).await?;
            let query = RowQuery {
                table: "rbac_user_roles",
                columns: &["role_id"],
                id: Some(("user_id", user)),
                ..RowQuery::default()
            };
            for assignment in store.find(query).await? {
                match row_by_id(store, "rbac_roles", id_in(&assignment, "role_id")).await? {
                    Some(role) => rows.roles.push(role),
                    None => rows.missing_roles += 1,
                }
            }
        }
        Ok(rows)
    }

    /// The first of username, custom_id, email and id.
    pub(super) fn name(&self) -> String {
        let name = ["username", "custom_id", "email", "id"].iter().find_map(|name| self.admin.get(*name));
        name.cloned().unwrap_or_default()
    }

    /// The workspace of the RBAC user, else that of the consumer.
    pub(super) fn workspace(&self) -> Option<Uuid> {
        let row = self.rbac_user.as_ref().or(self.consumer.as_ref())?;
        id_in(row, "ws_id")
    }

    /// Why the admin does not work, one clause each.
    pub(super) fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (column, exists, name) in [
            ("consumer_id", self.consumer.is_some(), "consumer"),
            ("rbac_user_id", self.rbac_user.is_some(), "RBAC user"),
        ] {
            if !exists {
                gaps.push(match self.admin.get(column) {
                    Some(id) => format!("its {name} {id} does not exist"),
                    None => format!("it has no {name}"),
                });
            }
        }
        if self.rbac_user.is_some() && self.roles.is_empty() {
            gaps.push(if self.missing_roles > 0 {
                "none of its roles exists".to_owned()
            } else {
                "it has no role".to_owned()
            });
        } else if self.missing_roles > 0 {
            gaps.push(format!("{} of its roles do not exist", self.missing_roles));
        }
        gaps
    }
}
