//! What a bootstrap of Kong Enterprise makes besides tables, on either side: the rows of
//! `tests/fixtures/enterprise-2.8/seed` under ids of their own. All lines make the same.

use std::collections::{BTreeMap, BTreeSet};

use kongferry::error::Result;
use serde_json::{Map, Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::catalog::{Catalog, fixtures, quote};
use crate::context::Context;
use crate::fill::basic_auth_hash;
use crate::fixture::{BlueRow, Fixture, read_green, schema_meta};
use crate::postgres::{Database, insert};

/// The `KONG_PASSWORD` that stands in the files.
pub const PASSWORD: &str = "Gr33n-Bootstrap!";

/// Tables with rows of a bootstrap on green, parents first.
const SEEDED: &[&str] = &[
    "workspaces",
    "parameters",
    "vitals_locks",
    "oic_jwks",
    "rbac_roles",
    "rbac_role_endpoints",
    "rbac_users",
    "rbac_user_roles",
    "consumers",
    "admins",
    "basicauth_credentials",
    "workspace_entities",
    "ws_migrations_backup",
];

/// Of these, those that only `KONG_PASSWORD` fills.
const OF_THE_ADMIN: &[&str] = &[
    "rbac_users",
    "rbac_user_roles",
    "consumers",
    "admins",
    "basicauth_credentials",
    "ws_migrations_backup",
];

/// The first super admin and his role.
const ADMIN: &str = "kong_admin";

/// Columns that carry the workspace on blue. The RBAC user of the bootstrap and `username_lower` of his consumer do not.
const PREFIXED: &[(&str, &str)] =
    &[("rbac_roles", "name"), ("consumers", "username"), ("basicauth_credentials", "username")];

/// Tables whose `ws_id` defaults to the default workspace on green.
const WITH_DEFAULT: &[&str] = &[
    "rbac_users",
    "rbac_roles",
    "files",
    "developers",
    "document_objects",
    "applications",
    "application_instances",
    "consumer_groups",
    "consumer_group_plugins",
];

/// The row that every bootstrap makes under the same id.
const JWKS: &str = "c3cfba2d-1617-453f-a416-52e6edb5f9a0";

type Rows = BTreeMap<String, Vec<Value>>;

/// Writes the rows to green and the id of its default workspace into its column defaults.
pub(crate) async fn seed_green(database: &Database, password: Option<&str>) -> Result<()> {
    let rows = seed(password)?;
    let workspace = rows["workspaces"][0]["id"].as_str().unwrap_or_default();
    let defaults: String = (WITH_DEFAULT.iter())
        .map(|table| format!("alter table {} alter ws_id set default '{workspace}'::uuid;", quote(table)))
        .collect();
    database.execute(&defaults).await?;
    let mut connection = database.connect().await?;
    for table in SEEDED {
        for row in rows.get(*table).into_iter().flatten() {
            insert(&mut connection, table, row).await?;
        }
    }
    connection.close().await.context(|| "PostgreSQL ended the connection".to_owned())
}

/// What the bootstrap of `line` leaves on blue.
pub(crate) fn bootstrapped_blue(line: &str, password: Option<&str>) -> Result<Fixture> {
    let mut blue = BTreeMap::from([("schema_meta".to_owned(), schema_meta(line)?)]);
    let tables = Catalog::of(line)?.tables;
    for (table, rows) in seed(password)?.into_iter().filter(|(table, _)| tables.contains_key(table)) {
        let rows = rows.into_iter().map(|row| blue_row(&table, row)).collect();
        blue.insert(table, rows);
    }
    Ok(Fixture::of_blue(blue))
}

/// The rows of Enterprise 2.8 after an upgrade of blue in place.
pub(crate) fn upgraded(line: &str) -> Result<Fixture> {
    let mut fixture = Fixture::shipped("enterprise-2.8")?;
    fixture.blue.insert("schema_meta".to_owned(), schema_meta(line)?);
    // Kong 3.0 gave the table of the plugin vault-auth another name and another key.
    fixture.rename("vaults", "vault_auth_vaults");
    for row in fixture.blue.get_mut("vault_auth_vaults").into_iter().flatten() {
        row.row.insert("partition".to_owned(), json!("vault_auth_vaults"));
    }
    Ok(fixture)
}

/// The rows of green with new ids, and with this password.
fn seed(password: Option<&str>) -> Result<Rows> {
    let mut rows = read_green(&fixtures().join("enterprise-2.8/seed"))?;
    rows.remove("schema_meta");
    if password.is_none() {
        remove_admin(&mut rows);
    }
    let mut ids = BTreeMap::new();
    for value in rows.values_mut().flatten().flat_map(Value::as_object_mut).flat_map(Map::values_mut) {
        let Some(text) = value.as_str() else { continue };
        if text == PASSWORD {
            *value = json!(password);
        } else if text != JWKS && Uuid::parse_str(text).is_ok() {
            *value = ids.entry(text.to_owned()).or_insert_with(|| json!(Uuid::new_v4())).clone();
        }
    }
    for row in rows.get_mut("basicauth_credentials").into_iter().flatten() {
        let consumer = row["consumer_id"].as_str().unwrap_or_default();
        row["password"] = json!(basic_auth_hash(password.unwrap_or_default(), consumer));
    }
    let key = Uuid::new_v4().simple();
    let jwks = json!({ "keys": [{ "kid": key, "kty": "oct", "alg": "HS256", "k": key }] }).to_string();
    rows.insert("oic_jwks".to_owned(), vec![json!({ "id": JWKS, "jwks": jwks })]);
    Ok(rows)
}

fn remove_admin(rows: &mut Rows) {
    let of_admin = |row: &Value| row["name"] == ADMIN || row["username"] == ADMIN;
    let mut ids: BTreeSet<String> = BTreeSet::new();
    for table in ["rbac_roles", "rbac_users", "basicauth_credentials", "consumers"] {
        for row in rows.get(table).into_iter().flatten().filter(|row| table != "rbac_roles" || of_admin(row))
        {
            ids.extend(row["id"].as_str().map(str::to_owned));
        }
    }
    rows.retain(|table, _| !OF_THE_ADMIN.contains(&table.as_str()));
    for own in rows.values_mut() {
        own.retain(|row| {
            !["id", "entity_id"].iter().any(|c| row[c].as_str().is_some_and(|id| ids.contains(id)))
        });
    }
}

/// A row of green as Cassandra holds it.
fn blue_row(table: &str, row: Value) -> BlueRow {
    let Value::Object(mut row) = row else { return BlueRow::default() };
    for (_, column) in PREFIXED.iter().filter(|(prefixed, _)| *prefixed == table) {
        let with_workspace =
            row["ws_id"].as_str().zip(row[*column].as_str()).map(|(ws, text)| json!(format!("{ws}:{text}")));
        row.insert((*column).to_owned(), with_workspace.unwrap_or_default());
    }
    for column in ["created_at", "updated_at"] {
        // Green's times of admins are in UTC and do not say so.
        if let Some(Value::String(time)) = row.get_mut(column)
            && !time.ends_with('Z')
        {
            time.push('Z');
        }
    }
    BlueRow { row, ..BlueRow::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one<'r>(rows: &'r [BlueRow], column: &str, value: &str) -> &'r Map<String, Value> {
        &rows.iter().find(|row| row.row[column] == value).unwrap().row
    }

    #[test]
    fn a_bootstrap_with_a_password_makes_the_first_admin() {
        let (one_seed, other) = (seed(Some("secret")).unwrap(), seed(Some("secret")).unwrap());
        let consumer = one_seed["consumers"][0]["id"].as_str().unwrap();
        assert_eq!(one_seed["admins"][0]["consumer_id"], consumer);
        assert_eq!(one_seed["basicauth_credentials"][0]["password"], basic_auth_hash("secret", consumer));
        assert_eq!(one_seed["rbac_users"][0]["user_token"], "secret");
        assert_ne!(other["consumers"][0]["id"], consumer);
        assert_eq!(one_seed["oic_jwks"][0]["id"], other["oic_jwks"][0]["id"]);
        assert_ne!(one_seed["oic_jwks"][0]["jwks"], other["oic_jwks"][0]["jwks"]);
        assert!(!json!(one_seed).to_string().contains(PASSWORD));
        let known: BTreeSet<&str> = one_seed.keys().map(String::as_str).collect();
        assert_eq!(known, SEEDED.iter().copied().collect());
    }

    #[test]
    fn a_bootstrap_without_a_password_makes_roles_only() {
        let rows = seed(None).unwrap();
        let count = |table: &str| rows.get(table).map_or(0, Vec::len);
        assert_eq!(
            (count("rbac_roles"), count("rbac_role_endpoints"), count("workspace_entities")),
            (3, 8, 6)
        );
        assert!(OF_THE_ADMIN.iter().all(|table| count(table) == 0));
        assert!(!json!(rows).to_string().contains(ADMIN));
    }

    #[test]
    fn blue_has_the_workspace_in_front_where_kong_puts_it() {
        let blue = bootstrapped_blue("enterprise-3.1", Some("secret")).unwrap().blue;
        let workspace = blue["workspaces"][0].row["id"].as_str().unwrap();
        let consumer = &blue["consumers"][0].row;
        assert_eq!(consumer["username"], format!("{workspace}:kong_admin_ADMIN_"));
        assert_eq!(consumer["username_lower"], "_admin_");
        assert_eq!(blue["rbac_users"][0].row["name"], "kong_admin");
        one(&blue["rbac_roles"], "name", &format!("{workspace}:kong_admin"));
        assert!(!blue.contains_key("vitals_locks") && !blue.contains_key("ws_migrations_backup"));
        let enterprise = one(&blue["schema_meta"], "subsystem", "enterprise");
        assert_eq!(enterprise["last_executed"], "015_3000_to_3100");
    }

    #[test]
    fn every_line_has_the_rows_of_2_8_under_its_own_names() {
        let fixture = Fixture::shipped("enterprise-3.3").unwrap();
        assert_eq!((fixture.blue_count("vaults"), fixture.blue_count("vault_auth_vaults")), (0, 1));
        assert!(fixture.green().unwrap().contains_key("vault_auth_vaults"));
        let enterprise = one(&fixture.blue["schema_meta"], "subsystem", "enterprise");
        assert_eq!(enterprise["last_executed"], "017_3200_to_3300");
    }

    #[test]
    fn a_row_may_be_written_by_two_statements() {
        let line = r#"{"row": {"id": "a", "x": 1}, "ttl": 60, "then": {"y": 2}}"#;
        let row: BlueRow = serde_json::from_str(line).unwrap();
        assert_eq!((row.ttl.unwrap()["x"], &row.then["y"]), (60, &json!(2)));
    }
}
