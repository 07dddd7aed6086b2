//! The ways in which a naive copier corrupts a Kong database (docs/kong-data-model.md, 7). Each has a test here that would
//! detect it; its number precedes the test. Most check one migration of the rows that Kong itself wrote,
//! with blue read by Cassandra's own JSON and green by PostgreSQL's, so that no code of the program checks itself.
//! Those that need rows of their own have them here, or in `conditions` (18, 21, 23).

use std::collections::{BTreeMap, BTreeSet};

use kongferry_harness::postgres::Database;
use kongferry_harness::{fill, lab};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

use crate::fixtures::instant;
use crate::migrated::{Migrated, contents, definitions, refused, refused_into, texts};
use crate::row_builder::{KongKeyspace, cache_key, id};
use crate::support::{kongferry, migrate_arguments};

const REQUESTED: &[&str] = &[
    "--include-table",
    "sessions",
    "--include-table",
    "oauth2_authorization_codes",
    "--include-table",
    "response_ratelimiting_metrics",
];

/// Tables that kongferry must not write, except `tags`, which green's triggers fill.
const UNTOUCHED: &[&str] = &["schema_meta", "locks", "cluster_events", "clustering_data_planes", "ttls"];

/// The rows that Kong wrote, before and after.
struct Migration {
    blue: BTreeMap<String, Vec<Map<String, Value>>>,
    before: BTreeMap<String, Vec<Value>>,
    migrated: Migrated,
}

/// One migration of Kong 3.3 and one of 2.8 for all tests that only read.
async fn migrations() -> [&'static Migration; 2] {
    static NEW: OnceCell<Migration> = OnceCell::const_new();
    static OLD: OnceCell<Migration> = OnceCell::const_new();
    let migrate = async |line: &str| {
        let blue = lab().filled_keyspace(line).await.expect("blue");
        let green = lab().fresh_green(line).await.expect("green");
        let before = texts(&green).await;
        let migrated = Migrated::into_green(&blue, green, REQUESTED).await;
        let mut rows = BTreeMap::new();
        for table in contents(&migrated.green).await.into_keys().filter(|table| table != "ttls") {
            rows.insert(table.clone(), blue.rows(&table).await.expect("rows"));
        }
        Migration { blue: rows, before, migrated }
    };
    [NEW.get_or_init(|| migrate("3.3")).await, OLD.get_or_init(|| migrate("2.8")).await]
}

impl Migration {
    fn tables(&self) -> Vec<String> {
        let report = self.migrated.ran.json();
        let tables = report["tables"].as_array().expect("tables").iter();
        let migrated = tables.filter(|table| table["not_copied"] == 0 && table["source"] != 0);
        migrated.map(|table| table["table"].as_str().expect("a name").to_owned()).collect()
    }

    /// Each row of blue that arrived, with what it became.
    fn pairs<'m>(&'m self, table: &'m str) -> impl Iterator<Item = (&'m Map<String, Value>, &'m Value)> {
        let key = |row: &Map<String, Value>| {
            row.get("id").or(row.get("key")).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let found = move |row: &'m Map<String, Value>| Some((row, self.migrated.find(table, &key(row))?));
        self.blue[table].iter().filter_map(found)
    }

    fn green(&self) -> &Database {
        &self.migrated.green
    }

    async fn ask(&self, sql: &str) -> Vec<Value> {
        self.green().json(sql).await.expect("an answer")
    }
}

/// 1: names, usernames and keys copied with the workspace in front.
#[tokio::test(flavor = "multi_thread")]
async fn no_unique_text_keeps_its_workspace_prefix() {
    for migration in migrations().await {
        let workspaces: Vec<&str> =
            migration.migrated.rows("workspaces").iter().filter_map(|row| row["id"].as_str()).collect();
        let columns = migration.ask("select distinct jsonb_build_array(i.indrelid::regclass::text, a.attname) from pg_index i \
            join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey) \
            where i.indisunique and a.atttypid = 'text'::regtype and i.indrelid::regclass::text !~ '^(pg_|kongferry[.])' and a.attname <> 'cache_key'").await;
        assert!(columns.len() > 15, "{columns:?}");
        let mut seen = 0;
        for column in &columns {
            let (table, name) = (column[0].as_str().expect("a table"), column[1].as_str().expect("a column"));
            for value in migration.migrated.rows(table).iter().filter_map(|row| row[name].as_str()) {
                let prefixed = workspaces.iter().any(|workspace| value.starts_with(&format!("{workspace}:")));
                assert!(!prefixed, "{table}.{name} holds {value}");
                seen += 1;
            }
        }
        assert!(seen > 50, "only {seen} values were checked");
    }
}

/// 2, 5, 6, 12, 13, 14, 17, 19: every column of every row means on green what it meant on blue – what has no prefix byte
/// for byte, stored hashes, the scope of every plugin, every instant to the millisecond, NULL where blue has null, lists
/// in their order, `jwk` as text.
#[tokio::test(flavor = "multi_thread")]
async fn every_field_has_the_value_it_has_on_blue() {
    for migration in migrations().await {
        let mut compared = 0;
        for table in migration.tables().iter().filter(|table| *table != "response_ratelimiting_metrics") {
            for (blue, green) in migration.pairs(table) {
                for (column, found) in green.as_object().expect("a row") {
                    let rebuilt = column == "cache_key" || column == "ttl";
                    if rebuilt || (column == "cert_digest" && blue[column].is_null()) {
                        continue;
                    }
                    assert_eq!(instant(found), expected(blue, column, found), "{table}.{column} of {green}");
                    compared += 1;
                }
            }
        }
        assert!(compared > 1000, "only {compared} fields were compared");
    }
}

/// What blue's value must be on green. `found` only tells how green holds it.
fn expected(blue: &Map<String, Value>, column: &str, found: &Value) -> Value {
    const PREFIXED: &[&str] = &[
        "username",
        "custom_id",
        "client_id",
        "access_token",
        "refresh_token",
        "code",
        "instance_name",
        "name",
        "key",
    ];
    let own = format!("{}:", blue.get("ws_id").and_then(Value::as_str).unwrap_or("none"));
    let parsed = |value: &Value| match value.as_str().map(serde_json::from_str::<Value>) {
        Some(Ok(parsed)) if parsed.is_object() => parsed,
        _ => value.clone(),
    };
    match &blue[column] {
        Value::String(text) if PREFIXED.contains(&column) => text.strip_prefix(&own).unwrap_or(text).into(),
        text @ Value::String(_) if found.is_object() => parsed(text),
        Value::Array(items) if matches!(column, "sources" | "destinations") => {
            items.iter().map(parsed).collect()
        }
        other => instant(other),
    }
}

/// 3: two default workspaces, or one that Kong's rows do not belong to.
#[tokio::test(flavor = "multi_thread")]
async fn blues_default_workspace_is_the_only_one() {
    for migration in migrations().await {
        let default = |rows: Vec<Value>| -> Vec<Value> {
            rows.into_iter().filter(|row| row["name"] == "default").map(|row| row["id"].clone()).collect()
        };
        let on_blue = default(migration.blue["workspaces"].iter().cloned().map(Value::Object).collect());
        assert_eq!(on_blue.len(), 1);
        assert_eq!(default(migration.migrated.rows("workspaces").to_vec()), on_blue);
    }
}

/// 4 and 22: ids made anew, rows that vanish. The ids of green and of the rejects are together those of blue.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_blue_is_on_green_or_rejected_under_its_id() {
    for migration in migrations().await {
        for table in migration.tables() {
            let ids = |rows: &mut dyn Iterator<Item = &Value>| -> Vec<String> {
                let mut ids: Vec<String> = rows.map(Value::to_string).collect();
                ids.sort();
                ids
            };
            if migration.blue[&table].iter().any(|row| !row.contains_key("id") && table != "parameters") {
                continue;
            }
            let key = if table == "parameters" { "key" } else { "id" };
            let on_blue = ids(&mut migration.blue[&table].iter().map(|row| &row[key]));
            let rejects =
                migration.migrated.ran.rejects.iter().filter(|line| line["table"] == table.as_str());
            let arrived = migration.migrated.rows(&table).iter().map(|row| &row[key]);
            let expired = migration.migrated.count(&table, "expired");
            let accounted = ids(&mut arrived.chain(rejects.map(|line| &line["key"])));
            if expired == 0 {
                let missing: Vec<&String> = on_blue.iter().filter(|id| !accounted.contains(id)).collect();
                assert_eq!(missing, Vec::<&String>::new(), "{table}");
            }
            assert_eq!(
                accounted.len(),
                accounted.iter().collect::<BTreeSet<_>>().len(),
                "{table}: a row is in two classes"
            );
        }
    }
}

/// 4: a basic-auth password is hashed with its consumer's id.
#[tokio::test(flavor = "multi_thread")]
async fn a_known_password_still_hashes_to_what_green_holds() {
    let blue = KongKeyspace::new("3.3").await;
    let consumer = blue.put("consumers", "ann", json!({})).await;
    let hash = fill::basic_auth_hash("correct horse", &consumer);
    let row = json!({ "consumer_id": consumer, "password": hash });
    let credential = blue.put("basicauth_credentials", "ann's", row).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    let found = migrated.row("basicauth_credentials", &credential);
    let of_green = found["consumer_id"].as_str().and_then(|id| id.parse::<uuid::Uuid>().ok()).expect("an id");
    assert_eq!(found["password"], fill::basic_auth_hash("correct horse", of_green));
}

/// 6: a reference set to null makes a plugin global.
#[tokio::test(flavor = "multi_thread")]
async fn every_plugin_keeps_its_scope() {
    for migration in migrations().await {
        let mut scoped = 0;
        for (blue, green) in migration.pairs("plugins") {
            for column in ["consumer_id", "route_id", "service_id"] {
                assert_eq!(green[column], blue[column], "{column} of {green}");
                scoped += usize::from(!green[column].is_null());
            }
        }
        assert!(scoped > 5, "only {scoped} scopes were compared");
    }
}

/// 7: foreign keys or triggers switched off on the way.
#[tokio::test(flavor = "multi_thread")]
async fn every_reference_on_green_resolves_and_every_constraint_is_valid() {
    for migration in migrations().await {
        let keys = migration.ask("select jsonb_build_object('child', c.conrelid::regclass::text, 'parent', c.confrelid::regclass::text, \
            'on', (select string_agg(format('p.%I = s.%I', p.attname, s.attname), ' and ') from unnest(c.conkey, c.confkey) as k(s, p) \
              join pg_attribute s on s.attrelid = c.conrelid and s.attnum = k.s join pg_attribute p on p.attrelid = c.confrelid and p.attnum = k.p), \
            'set', (select string_agg(format('s.%I is not null', s.attname), ' and ') from unnest(c.conkey) as k(s) \
              join pg_attribute s on s.attrelid = c.conrelid and s.attnum = k.s), 'valid', c.convalidated) \
            from pg_constraint c where c.contype = 'f'").await;
        assert!(keys.len() > 25, "{}", keys.len());
        for key in keys {
            let text = |name: &str| key[name].as_str().expect("a text").to_owned();
            let orphans = format!(
                "select to_jsonb(count(*)) from {} s where {} and not exists (select from {} p where {})",
                text("child"),
                text("set"),
                text("parent"),
                text("on")
            );
            assert_eq!(migration.ask(&orphans).await, [json!(0)], "{key}");
            assert_eq!(key["valid"], true, "{key}");
        }
        let off = "select to_jsonb(count(*)) from pg_trigger where tgenabled <> 'O'";
        assert_eq!(migration.ask(off).await, [json!(0)], "every trigger fires");
    }
}

/// 7 and 24: `tags` holds what Kong's triggers make of the entities, no more and no less.
#[tokio::test(flavor = "multi_thread")]
async fn the_tags_table_equals_the_tags_of_the_entities() {
    for migration in migrations().await {
        let tagged = migration.ask("select to_jsonb(tgrelid::regclass::text) from pg_trigger t join pg_proc p on p.oid = t.tgfoid where p.proname = 'sync_tags'").await;
        let mut expected: Vec<String> = Vec::new();
        for table in &tagged {
            let table = table.as_str().expect("a name");
            let entities = migration.migrated.rows(table).iter();
            expected.extend(entities.map(|row| json!([row["id"], table, row["tags"]]).to_string()));
        }
        let rows = migration.migrated.rows("tags").iter();
        let mut found: Vec<String> =
            rows.map(|row| json!([row["entity_id"], row["entity_name"], row["tags"]]).to_string()).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert!(found.len() > 50, "{}", found.len());
    }
}

/// 8: with a null workspace neither the composite foreign key nor UNIQUE (ws_id, x) checks anything.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_has_its_workspace() {
    for migration in migrations().await {
        for table in migration.tables() {
            let without =
                migration.migrated.rows(&table).iter().filter(|row| row.get("ws_id") == Some(&Value::Null));
            assert_eq!(without.count(), 0, "{table}");
        }
    }
}

/// 9, 10, 11: the server's time zone, in which Kong's triggers delete live keys; an expiry that is lost, invented, or
/// counted from somewhere else than now.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_to_live_is_carried_within_two_seconds_and_never_invented() {
    for line in ["2.8", "3.3"] {
        let blue = KongKeyspace::new(line).await;
        blue.parents().await;
        let tables = [
            ("keyauth_credentials", "created_at"),
            ("oauth2_tokens", "created_at"),
            ("acme_storage", "key"),
            ("sessions", "session_id"),
            ("oauth2_authorization_codes", "created_at"),
        ];
        let ttls = [90, 3600, 86_400, 100_000_000];
        for (table, _) in tables {
            for ttl in ttls {
                blue.put_with_ttl(table, &format!("{table} {ttl}"), json!({}), ttl).await;
            }
            // Zero is forever, whatever the table's own default.
            blue.put_with_ttl(table, &format!("{table} forever"), json!({}), 0).await;
        }
        // A code without a time to live of its own takes its table's: 300 seconds.
        let row = blue.row("oauth2_authorization_codes", "by default", json!({}));
        blue.write_row("oauth2_authorization_codes", &row).await.expect("a row");
        let migrated = Migrated::with(
            &blue,
            line,
            &["--include-table", "sessions", "--include-table", "oauth2_authorization_codes"],
        )
        .await;
        let mut cases: Vec<(String, String, String)> = Vec::new();
        for (table, column) in tables {
            let names = ttls.map(|ttl| format!("{table} {ttl}"));
            cases.extend(names.map(|name| (table.to_owned(), column.to_owned(), name)));
            let forever = migrated.row(table, &id(&format!("{table} forever")));
            assert_eq!(forever["ttl"], Value::Null, "{table}: an expiry was invented");
        }
        cases.push((
            "oauth2_authorization_codes".to_owned(),
            "created_at".to_owned(),
            "by default".to_owned(),
        ));
        for (table, column, name) in &cases {
            let sql = format!(
                "select to_jsonb(extract(epoch from ttl - now())) from {table} where id = '{}'",
                id(name)
            );
            let left =
                blue.ttl(table, column, &json!({ "id": id(name) })).await.expect("a ttl").expect("alive");
            let found = migrated.green.json(&sql).await.expect("a row").first().and_then(Value::as_f64);
            let found = found.unwrap_or_else(|| panic!("{name} has no expiry on green"));
            assert!(
                (found - f64::from(left)).abs() <= 2.0,
                "{line} {name}: {found} s on green, {left} s on blue"
            );
        }
        assert_eq!(migrated.ran.code, 0, "no live row was lost: {:#?}", migrated.ran.rejects);
    }
}

/// 9 and 24: a database whose own settings lead Kong's triggers to another time and to another schema's `tags`.
#[tokio::test(flavor = "multi_thread")]
async fn database_settings_do_not_affect_kongs_triggers() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let tags = json!({ "tags": ["a", "b"] });
    let key = blue.put_with_ttl("keyauth_credentials", "an hour", tags, 3600).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let name = green.name();
    let settings = format!(
        "create schema elsewhere; create table elsewhere.tags (like public.tags including all); \
         create table elsewhere.keyauth_credentials (like public.keyauth_credentials including all); \
         alter database \"{name}\" set search_path = elsewhere, public; \
         alter database \"{name}\" set timezone = 'Pacific/Kiritimati'"
    );
    green.execute(&settings).await.expect("settings");
    let migrated = Migrated::into_green(&blue, green, &[]).await;
    let left = format!(
        "select to_jsonb(extract(epoch from ttl - now())) from public.keyauth_credentials where id = '{key}'"
    );
    let left =
        migrated.green.json(&left).await.expect("a row").first().and_then(Value::as_f64).expect("an expiry");
    assert!((3500.0..=3600.0).contains(&left), "{left} s are left of an hour");
    let count = async |sql: &str| migrated.green.json(sql).await.expect("a count");
    let own = format!("select to_jsonb(tags) from public.tags where entity_id = '{key}'");
    assert_eq!(count(&own).await, [json!(["a", "b"])]);
    for table in ["tags", "keyauth_credentials"] {
        let sql = format!("select to_jsonb(count(*)) from elsewhere.{table}");
        assert_eq!(count(&sql).await, [json!(0)], "{table} of another schema was written to");
    }
}

/// 11 and 13: a default of green's column steps in where blue has null.
#[tokio::test(flavor = "multi_thread")]
async fn column_defaults_of_green_do_not_replace_nulls() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let defaults = green
        .json(
            "select jsonb_build_array(table_name, column_name) from information_schema.columns \
        where table_schema = 'public' and column_default is not null and is_nullable = 'YES'",
        )
        .await
        .expect("columns");
    let mut nulls: BTreeMap<&str, Value> = BTreeMap::new();
    for one in &defaults {
        let (table, column) = (one[0].as_str().expect("a table"), one[1].as_str().expect("a column"));
        nulls.entry(table).or_insert_with(|| json!({}))[column] = Value::Null;
    }
    let mut expected = Vec::new();
    for (table, columns) in nulls.into_iter().filter(|(table, _)| !UNTOUCHED.contains(table)) {
        let row = blue.put(table, &format!("nulls {table}"), columns.clone()).await;
        expected.push((table, row, columns));
    }
    assert!(expected.len() > 10, "{expected:?}");
    let migrated =
        Migrated::into_green(&blue, green, &["--include-table", "oauth2_authorization_codes"]).await;
    for (table, row, columns) in &expected {
        for column in columns.as_object().expect("columns").keys() {
            assert_eq!(
                migrated.row(table, row)[column],
                Value::Null,
                "{table}.{column}: green's default stepped in"
            );
        }
    }
}

/// 14: element 1 of `redirect_uris` is the default redirect, the order of hosts and paths decides which route matches.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_sets_keep_cassandras_order() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let (hosts, paths) = (
        json!(["z.example.com", "a.example.com", "m.example.com", "a.example.com"]),
        json!(["/z", "/a", "/m"]),
    );
    let route = blue.put("routes", "ordered", json!({ "hosts": hosts, "paths": paths })).await;
    let uris = json!(["https://z.example.com", "https://a.example.com", "https://m.example.com"]);
    let app = blue.put("oauth2_credentials", "app", json!({ "redirect_uris": uris })).await;
    let authorities = json!([id("b"), id("a"), id("c")]);
    let service = blue.put("services", "tls", json!({ "ca_certificates": authorities })).await;
    let on_blue = async |table: &str, key: &str, column: &str| {
        let rows = blue.rows(table).await.expect("rows");
        rows.iter().find(|row| row["id"] == key).expect("a row")[column].clone()
    };
    let migrated = Migrated::new(&blue, "3.3").await;
    assert_eq!(migrated.row("routes", &route)["hosts"], hosts);
    assert_eq!(migrated.row("routes", &route)["paths"], paths);
    for (table, key, column) in
        [("oauth2_credentials", &app, "redirect_uris"), ("services", &service, "ca_certificates")]
    {
        assert_eq!(migrated.row(table, key)[column], on_blue(table, key, column).await, "{table}.{column}");
    }
}

/// 15 and 16: JSON that was encoded twice, headers as pairs.
#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_types_that_kong_reads() {
    for migration in migrations().await {
        let columns = migration.ask("select jsonb_build_array(table_name, column_name, data_type) from information_schema.columns \
            where table_schema = 'public' and (udt_name in ('jsonb', '_jsonb', 'json'))").await;
        assert!(columns.len() >= 8, "{columns:?}");
        for one in &columns {
            let (table, column) = (one[0].as_str().expect("a table"), one[1].as_str().expect("a column"));
            let values = if one[2] == "ARRAY" {
                format!("select unnest(\"{column}\") as v from {table}")
            } else {
                format!("select \"{column}\" as v from {table}")
            };
            let types = migration
                .ask(&format!(
                    "select distinct to_jsonb(jsonb_typeof(v)) from ({values}) x where v is not null"
                ))
                .await;
            assert!(types.iter().all(|found| found == "object"), "{table}.{column} holds {types:?}");
        }
        let headers = migration
            .ask("select to_jsonb(jsonb_typeof(h.value)) from routes r, jsonb_each(r.headers) h")
            .await;
        assert!(!headers.is_empty() && headers.iter().all(|found| found == "array"), "{headers:?}");
    }
}

/// 18: numbers that went through a floating point. PostgreSQL casts blue's own text.
#[tokio::test(flavor = "multi_thread")]
async fn plugin_configurations_equal_blues_text_cast_by_postgres() {
    for migration in migrations().await {
        let mut compared = 0;
        for (blue, green) in migration.pairs("plugins") {
            let text = blue["config"].as_str().expect("a text").replace('\'', "''");
            let id = green["id"].as_str().expect("an id");
            let sql = format!(
                "select to_jsonb(config::text = (E'{}'::jsonb)::text) from plugins where id = '{id}'",
                text.replace('\\', "\\\\")
            );
            assert_eq!(migration.ask(&sql).await, [json!(true)], "{green}");
            compared += 1;
        }
        assert!(compared > 40, "{compared}");
    }
}

/// 20: a composite key that is missing or stale lets a second plugin of the same scope in later.
#[tokio::test(flavor = "multi_thread")]
async fn every_composite_key_is_rebuilt_from_its_row() {
    for migration in migrations().await {
        for table in ["plugins", "acls", "targets", "keys"] {
            if !migration.blue.contains_key(table) || !migration.blue[table][0].contains_key("cache_key") {
                continue;
            }
            for (blue, green) in migration.pairs(table) {
                assert_eq!(green["cache_key"], cache_key(table, blue), "{table}: {green}");
            }
        }
    }
}

/// 21: half rows completed with defaults become ghosts.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_rows_do_not_reappear() {
    let blue = KongKeyspace::new("3.3").await;
    let upstream = blue.put("upstreams", "deleted", json!({})).await;
    blue.execute(&format!("DELETE FROM upstreams WHERE id = {upstream}")).await.expect("a delete");
    blue.execute(&format!("UPDATE upstreams SET algorithm = 'round-robin' WHERE id = {upstream}"))
        .await
        .expect("an update");
    let migrated = Migrated::new(&blue, "3.3").await;
    let line = migrated.rejected("upstreams", &upstream, "incomplete_row", "slots, name");
    assert_eq!(line["row"]["algorithm"], "round-robin", "its full content is kept: {line:#}");
    assert_eq!(line["row"]["name"], Value::Null);
}

/// 24: run-time data and the record of migrations belong to the database they are in.
#[tokio::test(flavor = "multi_thread")]
async fn runtime_tables_and_schema_meta_are_not_written() {
    for migration in migrations().await {
        let after = texts(migration.green()).await;
        for table in UNTOUCHED.iter().filter(|table| after.contains_key(**table)) {
            assert_eq!(after[*table], migration.before[*table], "{table}");
        }
        assert!(
            !migration.blue["cluster_events"].is_empty() && !migration.blue["tags"].is_empty(),
            "blue has such rows"
        );
    }
}

/// 7 and 24: nothing in Kong's schema is defined otherwise afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_changes_no_definition() {
    let blue = lab().keyspace("3.3").await.expect("blue");
    let green = lab().fresh_green("3.3").await.expect("green");
    // Foreign objects are kept as well.
    green.execute("comment on table routes is 'ours'; alter table consumers set (fillfactor = 70); create index ours on routes (name); \
        grant select on plugins to public; create view open_routes as select id from routes").await.expect("more");
    let before = definitions(&green).await;
    let migrated = Migrated::into_green(&blue, green, &[]).await;
    let after = definitions(&migrated.green).await;
    assert_eq!(before.differences(&after, &BTreeSet::new()), []);
    assert_eq!((before.len(), before.digest()), (after.len(), after.digest()));
}

/// 25: versions that differ, migrations that are not finished, or one that runs.
#[tokio::test(flavor = "multi_thread")]
async fn another_version_or_an_unfinished_migration_stops_the_run() {
    let blue = KongKeyspace::new("3.3").await;
    refused(&blue, "3.2", &[], "the versions of Kong differ").await;
    refused(&blue, "2.8", &[], "the versions of Kong differ").await;

    let green = lab().fresh_green("3.3").await.expect("green");
    green
        .execute("update schema_meta set pending = '{099_later}' where subsystem = 'core'")
        .await
        .expect("an update");
    refused_into(&blue, &green, &[], "migrations on green are pending: core 099_later").await;

    let green = lab().fresh_green("3.3").await.expect("green");
    green
        .execute(
            "insert into locks (key, owner, ttl) values ('migrations', 'node', now() + interval '1 minute')",
        )
        .await
        .expect("a lock");
    refused_into(&blue, &green, &[], "a migration of Kong is running on green").await;

    let lock = json!({ "key": "migrations", "owner": "node" });
    blue.write_row("locks", &lock).await.expect("a lock");
    refused(&blue, "3.3", &[], "a migration of Kong is running on blue").await;
    blue.execute("TRUNCATE locks").await.expect("no lock");

    blue.execute(
        "UPDATE schema_meta SET pending = {'099_later'} WHERE key = 'schema_meta' AND subsystem = 'core'",
    )
    .await
    .expect("an update");
    refused(&blue, "3.3", &[], "migrations on blue are pending: core 099_later").await;
}

/// 26: rows and tags of a first try that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_run_leaves_nothing_behind_and_the_next_one_is_complete() {
    let blue = lab().keyspace("3.3").await.expect("blue");
    let green = lab().fresh_green("3.3").await.expect("green");
    let before = texts(&green).await;
    // Tokens come last; by then everything else is in the transaction.
    green.execute("create function fail() returns trigger language plpgsql as 'begin raise exception ''not today''; end'; \
        create trigger fail before insert on oauth2_tokens for each row execute function fail()").await.expect("a trigger");
    let ran = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await;
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert_eq!(texts(&green).await, before, "green is unchanged");
    let stages = "select to_jsonb(count(*)) from pg_class where relname like 'stage%' and relkind = 'r'";
    assert_eq!(green.json(stages).await.expect("a count"), [json!(0)], "no staging table is left");

    green.execute("drop trigger fail on oauth2_tokens; drop function fail()").await.expect("repaired");
    let after_failure = Migrated::into_green(&blue, green, &[]).await;
    let at_once = Migrated::new(&blue, "3.3").await;
    let compared =
        ["consumers", "plugins", "routes", "services", "tags", "oauth2_tokens", "workspaces", "parameters"];
    let all = |migrated: &Migrated, table: &str| -> BTreeSet<String> {
        let plain = |row: &Value| {
            let mut row = row.clone();
            row["ttl"].take();
            row.to_string()
        };
        migrated.rows(table).iter().map(plain).collect()
    };
    for table in compared {
        assert_eq!(all(&after_failure, table), all(&at_once, table), "{table}");
    }
}

/// 27: the identity of the cluster.
#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_id_is_blues() {
    for migration in migrations().await {
        for (blue, green) in migration.pairs("parameters") {
            assert_eq!(green["value"], blue["value"], "{green}");
        }
        let cluster = migration.migrated.row("parameters", "cluster_id")["value"].as_str().expect("an id");
        assert!(
            !migration.before["parameters"]
                .iter()
                .any(|row| row.as_str().is_some_and(|row| row.contains(cluster)))
        );
        assert_eq!(migration.migrated.rows("parameters").len(), migration.blue["parameters"].len());
    }
}
