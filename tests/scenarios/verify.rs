//! `verify` on real servers: nothing to find after a migration, and everything that is changed afterwards.

use std::collections::BTreeSet;

use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::mutations::{Mutation, damage_everything};
use super::support::{Ran, migrate, program, ran};

/// What a comparison said, and its findings.
pub struct Verified {
    /// What it printed, and its exit code.
    pub ran: Ran,
    /// The lines of the findings file.
    pub findings: Vec<Value>,
    file_mode: u32,
}

impl Verified {
    pub fn number(&self, name: &str) -> u64 {
        self.ran.json()["summary"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {:#?}", self.ran))
    }

    /// Fails with everything that was said and found unless the exit code is this one.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.ran.code, code, "{:#?}\n{:#?}", self.ran, self.findings);
        self
    }

    /// Whether a finding names this mutation, column and all.
    pub fn names(&self, mutation: &Mutation) -> bool {
        self.findings.iter().any(|line| mutation.is(line))
    }

    /// Whether there is a finding of this kind about this row.
    pub fn has(&self, table: &str, key: &str, kind: &str) -> bool {
        let is = |line: &&Value| line["table"] == table && line["key"] == key && line["kind"] == kind;
        self.findings.iter().any(|line| is(&line))
    }
}

/// The call that scripts rely on.
pub async fn verify(blue: &Keyspace, green: &Database, more: &[&str]) -> Verified {
    use std::os::unix::fs::PermissionsExt;
    let (mut command, folder) = program();
    command.args(["verify", "--blue", &blue.url(), "--green", green.url()]);
    command.args(["--findings", "findings.jsonl", "--format", "json"]).args(more);
    let output =
        tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the program");
    let path = folder.path().join("findings.jsonl");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    Verified {
        ran: ran(output, &folder.path().join("none")),
        findings: text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect(),
        file_mode: std::fs::metadata(&path).map_or(0, |about| about.permissions().mode() & 0o777),
    }
}

/// A keyspace with Kong's rows, and a green that `migrate` made from it.
pub async fn migrated(line: &str) -> (Keyspace, Database) {
    let blue = lab().filled_keyspace(line).await.expect("blue");
    let green = lab().fresh_green(line).await.expect("green");
    migrate(&blue, &green).await.expect_code(3);
    (blue, green)
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_no_difference_after_migrating_any_version() {
    for line in ["2.8", "3.0", "3.1", "3.2", "3.3"] {
        let (blue, green) = migrated(line).await;
        let verified = verify(&blue, &green, &[]).await.expect_code(0);
        assert_eq!(verified.findings, Vec::<Value>::new(), "{line}");
        assert_eq!(verified.ran.json()["partial"], false);
        assert_eq!(verified.number("rejected"), 1, "the consumer with U+0000");
        assert!(verified.number("equal") > 150, "{}", verified.ran.stdout);
        assert_eq!(verified.file_mode, 0o600);
        assert!(!verified.ran.stderr.contains("error"), "{}", verified.ran.stderr);
        let report = verified.ran.json();
        for table in report["tables"].as_array().expect("tables") {
            let number = |name: &str| table[name].as_u64().unwrap_or_default();
            let classes = ["equal", "repaired", "expired", "rejected", "different", "missing", "not_copied"];
            assert_eq!(number("source"), classes.map(number).iter().sum::<u64>(), "{table}");
        }
    }
}

/// A database of Kong 2.8 that Kong 3.3 upgraded in place, as far as `docs/kong-data-model.md` says what that does.
async fn upgraded() -> Keyspace {
    let mut fixture = Fixture::shipped("2.8").expect("a fixture");
    let vaults = fixture.blue.remove("vaults_beta").expect("vaults");
    fixture.blue.insert("sm_vaults".to_owned(), vaults);
    let meta = Fixture::shipped("3.3").expect("a fixture").blue.remove("schema_meta").expect("migrations");
    fixture.blue.insert("schema_meta".to_owned(), meta);
    let is_plain = |path: &str| path.chars().all(|c| c.is_ascii_alphanumeric() || "._~/%-".contains(c));
    for route in fixture.blue.get_mut("routes").expect("routes") {
        for path in route.row.get_mut("paths").and_then(Value::as_array_mut).into_iter().flatten() {
            let text = path.as_str().unwrap_or_default();
            if !is_plain(text) {
                *path = json!(format!("~{text}"));
            }
        }
    }
    let keyspace = lab().fresh_keyspace("3.3").await.expect("a keyspace");
    keyspace.load(&fixture, LoadOptions::default()).await.expect("rows");
    keyspace
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_no_difference_after_migrating_an_upgraded_database() {
    let blue = upgraded().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    migrate(&blue, &green).await.expect_code(3);
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(verified.findings, Vec::<Value>::new());
    assert!(verified.number("repaired") > 0, "Kong 3.0 gave targets a cache_key: {}", verified.ran.stdout);
    assert!(verified.number("equal") > 120, "{}", verified.ran.stdout);
}

/// Changes two rows per column of every table: one value becomes another, one becomes null, and where there is a
/// null, that becomes a value. What was changed is kept for the test.
const SWEEP: &str = r#"
set session_replication_role = replica;
create schema mutation;
create table mutation.expected (table_name text, key text, column_name text);
do $do$
declare
  c record;
  changed text;
  filled text;
begin
  for c in
    select t.relname as tab, a.attname as col, format_type(a.atttypid, a.atttypmod) as typ, a.attnotnull as nn
    from pg_attribute a
    join pg_class t on t.oid = a.attrelid and t.relkind = 'r'
    join pg_namespace n on n.oid = t.relnamespace and n.nspname = 'public'
    where a.attnum > 0 and not a.attisdropped and a.attname <> 'id'
      and t.relname in ('workspaces', 'consumers', 'services', 'routes', 'plugins', 'upstreams', 'targets', 'snis',
        'certificates', 'ca_certificates', 'acls', 'basicauth_credentials', 'hmacauth_credentials', 'jwt_secrets',
        'keyauth_credentials', 'oauth2_credentials', 'acme_storage', 'sm_vaults', 'vaults_beta', 'keys', 'key_sets')
    order by t.relname, a.attnum
  loop
    changed := case
      when c.typ = 'text' then format('%I || ''x''', c.col)
      when c.typ = 'uuid' then 'gen_random_uuid()'
      when c.typ = 'boolean' then format('not %I', c.col)
      when c.typ in ('smallint', 'integer', 'bigint') then format('%I + 1', c.col)
      when c.typ like 'timestamp%' then format('%I + interval ''1 hour''', c.col)
      when c.typ = 'jsonb' then format('%I || ''{"mutated": [{"deep": 1}]}''', c.col)
      when c.typ = 'text[]' then format('array_append(%I, ''mutated'')', c.col)
      when c.typ = 'uuid[]' then format('array_append(%I, gen_random_uuid())', c.col)
      when c.typ = 'jsonb[]' then format('array_append(%I, ''{"ip": "9.9.9.9"}''::jsonb)', c.col)
    end;
    filled := case
      when c.typ = 'text' then '''x'' || gen_random_uuid()'
      when c.typ = 'uuid' then 'gen_random_uuid()'
      when c.typ = 'boolean' then 'false'
      when c.typ in ('smallint', 'integer', 'bigint') then '1'
      when c.typ like 'timestamp%' then 'now() + interval ''1 day'''
      when c.typ = 'jsonb' then '''{}'''
      when c.col = 'tags' then '''{one}'''
      else '''{}'''
    end;
    execute format($sql$
      with one as (select id from %1$I where %2$I is not null order by id limit 1),
      done as (update %1$I t set %2$I = %3$s from one where t.id = one.id returning t.id)
      insert into mutation.expected select %1$L, id::text, %2$L from done $sql$, c.tab, c.col, changed);
    if not c.nn then
      execute format($sql$
        with one as (select id from %1$I where %2$I is not null
            and id::text not in (select key from mutation.expected where table_name = %1$L and column_name = %2$L)
          order by id desc limit 1),
        done as (update %1$I t set %2$I = null from one where t.id = one.id returning t.id)
        insert into mutation.expected select %1$L, id::text, %2$L from done $sql$, c.tab, c.col);
      execute format($sql$
        with one as (select id from %1$I where %2$I is null
            and id::text not in (select key from mutation.expected where table_name = %1$L and column_name = %2$L)
          order by id limit 1),
        done as (update %1$I t set %2$I = %3$s from one where t.id = one.id returning t.id)
        insert into mutation.expected select %1$L, id::text, %2$L from done $sql$, c.tab, c.col, filled);
    end if;
  end loop;
end $do$;
"#;

/// Every column of every table, changed, emptied and filled: all found under their own name, and nothing else.
async fn every_changed_column_is_named(line: &str) {
    let (blue, green) = migrated(line).await;
    green.execute(SWEEP).await.expect("mutations");
    let expected: BTreeSet<(String, String, String)> = green
        .json("select to_jsonb(e) from mutation.expected e")
        .await
        .expect("what was changed")
        .iter()
        .map(|row| (text(&row["table_name"]), text(&row["key"]), text(&row["column_name"])))
        .collect();
    assert!(expected.len() >= 250, "only {} mutations", expected.len());
    let verified = verify(&blue, &green, &[]).await.expect_code(3);
    let is_field =
        |line: &&Value| !["orphan", "tags_differ"].contains(&line["kind"].as_str().unwrap_or_default());
    let found: BTreeSet<(String, String, String)> = (verified.findings.iter().filter(is_field))
        .map(|line| (text(&line["table"]), text(&line["key"]), text(&line["column"])))
        .collect();
    let missed: Vec<_> = expected.difference(&found).collect();
    let invented: Vec<_> = found.difference(&expected).collect();
    assert!(missed.is_empty() && invented.is_empty(), "missed {missed:#?}, invented {invented:#?}");
    for kind in ["wrong_workspace", "wrong_expiry", "wrong_cache_key", "orphan", "tags_differ"] {
        let named = verified.findings.iter().any(|finding| finding["kind"] == kind);
        // Kong 2.8 has cache_keys as well, of plugins and acls.
        assert!(named, "no {kind} on {line}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_every_changed_column_on_kong_2_8() {
    every_changed_column_is_named("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_every_changed_column_on_kong_3_3() {
    every_changed_column_is_named("3.3").await;
}

/// Each of a hundred and more damages is found under its table, key, kind and column, and nothing else is.
async fn every_damage_is_found(line: &str) {
    let (blue, green) = migrated(line).await;
    let mutations = damage_everything(&green).await;
    assert!(mutations.len() >= 100, "only {} mutations", mutations.len());
    let verified = verify(&blue, &green, &[]).await.expect_code(3);
    let missed: Vec<&Mutation> = mutations.iter().filter(|one| !verified.names(one)).collect();
    assert!(missed.is_empty(), "of {} mutations these were not found: {missed:#?}", mutations.len());
    // What a lost parent or a switched off trigger leads to is no invention.
    let follows = |kind: &str| ["orphan", "tags_differ"].contains(&kind);
    let known = |line: &Value| {
        let kind = line["kind"].as_str().unwrap_or_default();
        follows(kind) || mutations.iter().any(|one| one.is(line))
    };
    let invented: Vec<&Value> = verified.findings.iter().filter(|line| !known(line)).collect();
    assert!(invented.is_empty(), "invented: {invented:#?}");
    let sorts: BTreeSet<&str> = mutations.iter().map(|one| one.what).collect();
    println!("Kong {line}: {} mutations of {} sorts, all found", mutations.len(), sorts.len());
    let all = verified.findings.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("BEGIN"), "a certificate is in the findings");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_every_mutation_on_kong_2_8() {
    every_damage_is_found("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_every_mutation_on_kong_3_3() {
    every_damage_is_found("3.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_wrong_tags_a_second_default_workspace_and_an_orphan() {
    let (blue, green) = migrated("3.3").await;
    let done = [
        (
            "services",
            "tags_differ",
            "update tags set tags = '{other}' where entity_id = (select max(id::text)::uuid from services) returning entity_id::text as key",
        ),
        (
            "consumers",
            "tags_differ",
            "delete from tags where entity_id = (select max(id::text)::uuid from consumers) returning entity_id::text as key",
        ),
        (
            "deleted",
            "tags_differ",
            "insert into tags (entity_id, entity_name, tags) values (gen_random_uuid(), 'deleted', '{a}') returning entity_id::text as key",
        ),
        (
            "targets",
            "orphan",
            "update targets set upstream_id = gen_random_uuid() where id = (select min(id::text)::uuid from targets) returning id::text as key",
        ),
        (
            "snis",
            "orphan",
            "update snis set certificate_id = gen_random_uuid() where id = (select min(id::text)::uuid from snis) returning id::text as key",
        ),
        (
            "workspaces",
            "extra",
            "insert into workspaces (id, name) values (gen_random_uuid(), 'default') returning id::text as key",
        ),
    ];
    green.execute("alter table workspaces drop constraint workspaces_name_key").await.expect("unprotected");
    let mut expected = Vec::new();
    for (table, kind, sql) in done {
        let keys = unchecked(&green, sql).await;
        expected.push((table, kind, keys));
    }
    let verified = verify(&blue, &green, &[]).await.expect_code(3);
    for (table, kind, keys) in expected {
        assert_eq!(keys.len(), 1, "{table} {kind}");
        assert!(verified.has(table, &keys[0], kind), "{table} {kind} {keys:?}: {:#?}", verified.findings);
    }
    let defaults = verified.findings.iter().filter(|line| line["kind"] == "second_default_workspace").count();
    assert_eq!(defaults, 2, "both are named: {:#?}", verified.findings);
}

/// What is defined on green – an index, a constraint, a trigger, a default – belongs to the proof.
#[tokio::test(flavor = "multi_thread")]
async fn verify_names_definitions_changed_since_the_run() {
    let (blue, green) = migrated("3.3").await;
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(verified.ran.json()["definitions"], "unchanged");
    green
        .execute(
            "drop index routes_service_id_idx;
             alter table consumers disable trigger consumers_sync_tags_trigger;
             alter table acls drop constraint acls_cache_key_key;
             alter table services alter column enabled set default false;
             create table somebodys (id uuid primary key);",
        )
        .await
        .expect("changes");
    let verified = verify(&blue, &green, &[]).await.expect_code(3);
    assert_eq!(verified.ran.json()["definitions"], "changed");
    let named = |table: &str, key: &str| {
        let is = |line: &&Value| {
            line["kind"] == "definition_changed"
                && line["table"] == table
                && line["key"].as_str().is_some_and(|name| name.ends_with(key))
        };
        assert!(verified.findings.iter().any(|line| is(&line)), "{table} {key}: {:#?}", verified.findings);
    };
    named("routes", "routes_service_id_idx");
    named("consumers", "consumers_sync_tags_trigger");
    named("acls", "acls_cache_key_key");
    named("services", "enabled");
    named("somebodys", "somebodys");
}

/// Runs one statement with constraints and triggers off; the `key` of what it returned.
async fn unchecked(green: &Database, sql: &str) -> Vec<String> {
    use sqlx::Row;
    let mut connection = green.connect().await.expect("a connection");
    let off = sqlx::AssertSqlSafe("set session_replication_role = replica".to_owned());
    sqlx::raw_sql(off).execute(&mut connection).await.expect("a superuser");
    let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection).await;
    rows.unwrap_or_else(|e| panic!("{sql}: {e}")).iter().map(|row| row.get("key")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_kong_reads_alike_are_no_difference() {
    let (blue, green) = migrated("3.3").await;
    green
        .execute(
            "update consumers set tags = array(select t from unnest(tags) t order by t desc) where tags is not null;
             update services set tags = '{}' where tags is null;
             update routes set methods = array(select m from unnest(methods) m order by m desc) where methods is not null;
             update keyauth_credentials set ttl = ttl + interval '1 second' where ttl is not null;",
        )
        .await
        .expect("changes without meaning");
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    assert_eq!(verified.findings, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn data_plane_tables_do_not_fail_verify() {
    let (blue, green) = migrated("3.3").await;
    green.execute("delete from oauth2_tokens").await.expect("deleted");
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    assert!(verified.ran.json()["traffic"]["missing"].as_u64().unwrap_or(0) > 0);
    assert!(verified.findings.iter().all(|line| line["table"] == "oauth2_tokens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unmigrated_green_lacks_every_row() {
    let blue = lab().filled_keyspace("3.3").await.expect("blue");
    let green = lab().fresh_green("3.3").await.expect("green");
    let verified = verify(&blue, &green, &["--table", "workspaces"]).await.expect_code(3);
    assert!(verified.number("missing") > 0);
    assert_eq!(verified.number("extra"), 1, "the workspace of green's own bootstrap");
    assert_eq!(verified.ran.json()["partial"], json!(true));
}

/// How long `verify` takes beside `migrate`: `cargo test --test scenarios -- --ignored --nocapture takes_no_longer`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn verify_takes_no_longer_than_migrate() {
    let consumers = std::env::var("KONGFERRY_CONSUMERS").ok().and_then(|n| n.parse().ok()).unwrap_or(20_000);
    let (blue, green) = crowd(consumers).await;
    let began = std::time::Instant::now();
    migrate(&blue, &green).await.expect_code(3);
    let migrated = began.elapsed();
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    let took = began.elapsed() - migrated;
    println!("{} rows: migrate {migrated:.1?}, verify {took:.1?}", verified.number("equal"));
    assert!(took <= migrated, "migrate {migrated:?}, verify {took:?}");
}

/// The rows that Kong left, and very many consumers in their default workspace.
async fn crowd(consumers: u64) -> (Keyspace, Database) {
    let blue = lab().filled_keyspace("3.3").await.expect("blue");
    let workspaces = blue.rows("workspaces").await.expect("workspaces");
    let default = workspaces.iter().find(|row| row["name"] == "default").expect("a default workspace");
    let id = default["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    kongferry_harness::fill::fill(&blue, id, consumers).await.expect("consumers");
    (blue, lab().fresh_green("3.3").await.expect("green"))
}
