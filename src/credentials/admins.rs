//! Admins of Enterprise: each is a chain of rows – admin, consumer, RBAC user, roles, password – and as good as the
//! weakest of them (facts, 8.5).

use uuid::Uuid;

use super::judge::{Judge, id_of};
use super::store::{Row, Store, Wanted};
use crate::error::Result;

/// The table of admins.
pub const TABLE: &str = "admins";

const COLUMNS: &[&str] =
    &["id", "username", "custom_id", "email", "consumer_id", "rbac_user_id", "rbac_token_enabled", "status"];

/// Everything that belongs to one admin.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// The admin's own row.
    pub admin: Row,
    /// The hidden consumer that carries the password.
    pub consumer: Option<Row>,
    /// The RBAC user that carries token and roles.
    pub rbac_user: Option<Row>,
    /// Roles that exist.
    pub roles: Vec<Row>,
    /// Roles that are given and do not exist.
    pub lost_roles: usize,
    /// Credentials of basic-auth.
    pub passwords: Vec<Row>,
}

/// Admins of that username, custom_id, email or id.
pub async fn find<S: Store>(judge: &Judge<S>, name: &str) -> Result<Vec<Row>> {
    for column in ["username", "custom_id", "email"] {
        let wanted =
            Wanted { table: TABLE, columns: COLUMNS, text: Some((column, name)), ..Wanted::default() };
        let rows = judge.store.find(wanted).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    match Uuid::parse_str(name) {
        Ok(id) => {
            judge
                .store
                .find(Wanted { table: TABLE, columns: COLUMNS, id: Some(("id", id)), ..Wanted::default() })
                .await
        }
        Err(_) => Ok(Vec::new()),
    }
}

/// All admins.
pub async fn all<S: Store>(judge: &Judge<S>) -> Result<Vec<Chain>> {
    let rows = judge.store.find(Wanted { table: TABLE, columns: COLUMNS, ..Wanted::default() }).await?;
    let mut chains = Vec::with_capacity(rows.len());
    for row in rows {
        chains.push(Chain::of(judge, row).await?);
    }
    chains.sort_by_key(Chain::name);
    Ok(chains)
}

impl Chain {
    /// Follows an admin's references.
    pub async fn of<S: Store>(judge: &Judge<S>, admin: Row) -> Result<Chain> {
        let mut chain = Chain { admin, ..Chain::default() };
        if let Some(id) = id_of(&chain.admin, "consumer_id") {
            chain.consumer = judge.by_id("consumers", id).await?;
            let columns = &["id", "ws_id", "username", "password", "consumer_id"];
            let wanted = Wanted {
                table: "basicauth_credentials",
                columns,
                id: Some(("consumer_id", id)),
                ..Wanted::default()
            };
            chain.passwords = judge.store.find(wanted).await?;
        }
        if let Some(id) = id_of(&chain.admin, "rbac_user_id") {
            chain.rbac_user = judge.by_id("rbac_users", id).await?;
            let columns = &["role_id"];
            let wanted =
                Wanted { table: "rbac_user_roles", columns, id: Some(("user_id", id)), ..Wanted::default() };
            for given in judge.store.find(wanted).await? {
                let role = match id_of(&given, "role_id") {
                    Some(id) => judge.by_id("rbac_roles", id).await?,
                    None => None,
                };
                match role {
                    Some(role) => chain.roles.push(role),
                    None => chain.lost_roles += 1,
                }
            }
        }
        Ok(chain)
    }

    /// What people call the admin.
    pub fn name(&self) -> String {
        let named = ["username", "custom_id", "email", "id"].iter().find_map(|name| self.admin.get(*name));
        named.cloned().unwrap_or_default()
    }

    /// The admin's own workspace: that of the RBAC user, or else of the consumer.
    pub fn workspace(&self) -> Option<Uuid> {
        let row = self.rbac_user.as_ref().or(self.consumer.as_ref())?;
        id_of(row, "ws_id")
    }

    /// What is missing so that the admin could do anything at all.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for (column, found, what) in [
            ("consumer_id", self.consumer.is_some(), "consumer"),
            ("rbac_user_id", self.rbac_user.is_some(), "RBAC user"),
        ] {
            if !found {
                gaps.push(match self.admin.get(column) {
                    Some(id) => format!("its {what} {id} does not exist"),
                    None => format!("it has no {what}"),
                });
            }
        }
        if self.rbac_user.is_some() && self.roles.is_empty() {
            gaps.push(if self.lost_roles > 0 {
                "none of its roles exists".to_owned()
            } else {
                "it has no role".to_owned()
            });
        } else if self.lost_roles > 0 {
            gaps.push(format!("{} of its roles do not exist", self.lost_roles));
        }
        gaps
    }
}
