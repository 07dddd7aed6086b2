//! Small keyspaces for blue, and the contents of a green, so that a test can check that nothing was changed.

use std::collections::BTreeMap;

use kongferry_harness::cassandra::Endpoint;
use kongferry_harness::catalog::{Catalog, KeyspaceOptions};
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::postgres::Database;
use kongferry_harness::{fill, lab};
use serde_json::{Value, json};
use uuid::Uuid;

/// The id of the default workspace of [`small_blue`].
pub const WORKSPACE: &str = "a2a473df-2f8f-4630-a5d2-ce462300cede";

/// The consumer of [`small_blue`].
pub const CONSUMER: &str = "00000000-0000-4000-8000-0000000000c1";

/// Tables without which a keyspace is not Kong's, and one with rows to move.
const SMALL: &[&str] =
    &["schema_meta", "workspaces", "parameters", "locks", "consumers", "keyauth_credentials"];

/// Tables that [`filled_blue`] needs: with each one more, making them takes longer.
const FILLED: &[&str] = &[
    "schema_meta",
    "workspaces",
    "parameters",
    "consumers",
    "basicauth_credentials",
    "keyauth_credentials",
    "acls",
];

/// A keyspace of its own with Kong's record of migrations, a default workspace and one consumer with a key.
pub async fn small_blue(line: &str) -> Keyspace {
    with_consumer(bare_blue(line, SMALL).await).await
}

/// The same on another server than the shared one.
pub async fn small_blue_on(endpoint: &Endpoint, line: &str) -> Keyspace {
    with_consumer(bare_blue_on(endpoint, line, SMALL).await).await
}

async fn with_consumer(blue: Keyspace) -> Keyspace {
    let consumer = json!({ "id": CONSUMER, "ws_id": WORKSPACE, "username": format!("{WORKSPACE}:anna") });
    blue.write_row("consumers", &consumer).await.expect("a consumer");
    let key = json!({
        "id": "00000000-0000-4000-8000-0000000000e1", "ws_id": WORKSPACE, "consumer_id": CONSUMER,
        "key": format!("{WORKSPACE}:annas-key"),
    });
    blue.write_row("keyauth_credentials", &key).await.expect("a key");
    blue
}

/// A keyspace with this many consumers, each with basic-auth, key-auth and an acl, and nothing else.
pub async fn filled_blue(consumers: u64) -> Keyspace {
    with_consumers(bare_blue("3.3", FILLED).await, consumers).await
}

/// The same on another server than the shared one.
pub async fn filled_blue_on(endpoint: &Endpoint, consumers: u64) -> Keyspace {
    with_consumers(bare_blue_on(endpoint, "3.3", FILLED).await, consumers).await
}

async fn with_consumers(blue: Keyspace, consumers: u64) -> Keyspace {
    fill::fill(&blue, Uuid::parse_str(WORKSPACE).expect("an id"), consumers).await.expect("rows");
    blue
}

/// A keyspace of its own with these tables, Kong's record of migrations and a default workspace.
pub async fn bare_blue(line: &str, tables: &[&str]) -> Keyspace {
    let blue = lab().keyspace_with_tables(line, tables).await.expect("a keyspace");
    add_workspace(&blue, line).await;
    blue
}

/// The same on another server than the shared one.
async fn bare_blue_on(endpoint: &Endpoint, line: &str, tables: &[&str]) -> Keyspace {
    let mut catalog = Catalog::of(line).expect("a catalog");
    catalog.tables.retain(|table, _| tables.contains(&table.as_str()));
    let session = endpoint.session().await.expect("a session");
    let name = format!("small_{}", &Uuid::new_v4().simple().to_string()[..12]);
    catalog.create(&session, &name, KeyspaceOptions::default()).await.expect("tables");
    let blue = Keyspace::open(endpoint, &name).await.expect("a keyspace");
    add_workspace(&blue, line).await;
    blue
}

async fn add_workspace(blue: &Keyspace, line: &str) {
    let fixture = Fixture::shipped(line).expect("a fixture");
    for row in &fixture.blue["schema_meta"] {
        blue.write_recorded("schema_meta", row, LoadOptions::default()).await.expect("a row");
    }
    blue.write_row("workspaces", &json!({ "id": WORKSPACE, "name": "default" })).await.expect("a workspace");
}

/// The rows of a line that cannot expire while a test runs, in a keyspace of their own.
pub async fn lasting_blue(line: &str) -> Keyspace {
    let mut fixture = Fixture::shipped(line).expect("a fixture");
    for rows in fixture.blue.values_mut() {
        rows.retain(|row| row.ttl.iter().flat_map(|ttl| ttl.values()).all(|seconds| *seconds > 3600));
    }
    let blue = lab().fresh_keyspace(line).await.expect("a keyspace");
    blue.load(&fixture, LoadOptions::default()).await.expect("rows");
    blue
}

/// Everything a database holds: for each table its definition, and its rows with the place and the transaction that
/// wrote them. Two of them are equal only if nothing was written in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, String>);

impl Contents {
    pub async fn read(green: &Database) -> Contents {
        let mut contents = BTreeMap::new();
        for line in green.json(DEFINITIONS).await.expect("definitions") {
            contents.insert(text(&line["name"]), text(&line["definition"]));
        }
        let tables: Vec<String> = green.json(TABLES).await.expect("tables").iter().map(text).collect();
        for table in tables {
            let sql = format!(
                "select jsonb_build_object('rows', count(*), 'digest', md5(coalesce(string_agg(t.ctid::text || t.xmin::text || t::text, '|' order by t.ctid), ''))) from {table} t"
            );
            let rows = green.json(&sql).await.expect("rows");
            contents
                .insert(format!("rows of {table}"), rows.first().map(Value::to_string).unwrap_or_default());
        }
        Contents(contents)
    }

    /// The same without our own schema, which a refused run may have made for its journal. No staging table may be
    /// left in it.
    #[track_caller]
    pub fn without_journal(self) -> Contents {
        let stage = self.0.keys().find(|name| name.contains("kongferry.stage_"));
        assert_eq!(stage, None, "a staging table is left");
        self.without_ours()
    }

    /// The same, whatever a killed run left in our own schema.
    pub fn without_ours(mut self) -> Contents {
        self.0.retain(|name, _| !name.contains("kongferry"));
        self
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

const TABLES: &str = "
    select to_jsonb(format('%I.%I', n.nspname, c.relname))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";

const DEFINITIONS: &str = "
    select jsonb_build_object('name', format('relation %s.%s', n.nspname, c.relname), 'definition',
      concat_ws(' | ', c.oid, c.relfilenode, c.relkind, c.relowner, c.relacl::text, c.reloptions::text,
        pg_get_indexdef(c.oid),
        (select string_agg(concat_ws(' ', a.attname, a.atttypid, a.attnotnull, pg_get_expr(d.adbin, d.adrelid)), ', ' order by a.attnum)
         from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
         where a.attrelid = c.oid and a.attnum > 0),
        (select string_agg(pg_get_constraintdef(o.oid), ', ' order by o.oid) from pg_constraint o where o.conrelid = c.oid),
        (select string_agg(concat_ws(' ', t.tgname, t.tgenabled), ', ' order by t.oid) from pg_trigger t where t.tgrelid = c.oid)))
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
    union all
    select jsonb_build_object('name', 'schema ' || nspname, 'definition', concat_ws(' | ', oid, nspowner, nspacl::text))
    from pg_namespace where nspname !~ '^pg_'
    union all
    select jsonb_build_object('name', 'function ' || p.oid || ' ' || p.proname, 'definition', md5(p.prosrc))
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'";
