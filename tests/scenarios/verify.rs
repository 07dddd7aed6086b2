//! `verify` on real servers: nothing to find after a migration, and everything that is changed afterwards.

use std::collections::BTreeSet;

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::support::{Ran, migrate, program, ran};

/// What a comparison said, and its findings.
struct Verified {
    ran: Ran,
    findings: Vec<Value>,
    file_mode: u32,
}

impl Verified {
    fn number(&self, name: &str) -> u64 {
        self.ran.json()["summary"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {:#?}", self.ran))
    }

    #[track_caller]
    fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.ran.code, code, "{:#?}\n{:#?}", self.ran, self.findings);
        self
    }

    fn has(&self, table: &str, key: &str, kind: &str) -> bool {
        let is = |line: &&Value| line["table"] == table && line["key"] == key && line["kind"] == kind;
        self.findings.iter().any(|line| is(&line))
    }
}

/// The call that scripts rely on.
async fn verify(blue: &Keyspace, green: &Database, more: &[&str]) -> Verified {
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

async fn migrated(line: &str) -> (Keyspace, Database) {
    let blue = lab().filled_keyspace(line).await.expect("blue");
    let green = lab().fresh_green(line).await.expect("green");
    migrate(&blue, &green).await.expect_code(3);
    (blue, green)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_of_any_line_leaves_nothing_to_find() {
    for line in ["2.8", "3.0", "3.1", "3.2", "3.3"] {
        let (blue, green) = migrated(line).await;
        let verified = verify(&blue, &green, &[]).await.expect_code(0);
        assert_eq!(verified.findings, Vec::<Value>::new(), "{line}");
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
async fn every_changed_column_is_named_on_kong_2_8() {
    every_changed_column_is_named("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_changed_column_is_named_on_kong_3_3() {
    every_changed_column_is_named("3.3").await;
}

/// One row of green, changed by a statement that returns the key.
struct Mutation {
    table: &'static str,
    kind: &'static str,
    sql: &'static str,
}

const fn mutation(table: &'static str, kind: &'static str, sql: &'static str) -> Mutation {
    Mutation { table, kind, sql }
}

/// What a person, a bug or a bad night does to a row.
const MUTATIONS: &[Mutation] = &[
    mutation(
        "acls",
        "missing",
        "delete from acls where id = (select min(id::text)::uuid from acls) returning id",
    ),
    mutation(
        "consumers",
        "extra",
        "insert into consumers (id, username, ws_id) select gen_random_uuid(), 'extra', ws_id from consumers limit 1 returning id",
    ),
    mutation(
        "basicauth_credentials",
        "different",
        "update basicauth_credentials set password = overlay(password placing case left(password, 1) when '0' then '1' else '0' end from 1 for 1) where id = (select min(id::text)::uuid from basicauth_credentials) returning id",
    ),
    mutation(
        "routes",
        "different",
        "update routes set paths = array(select p from unnest(paths) with ordinality u(p, n) order by n desc) where id = (select min(id::text)::uuid from routes where cardinality(paths) > 1) returning id",
    ),
    mutation(
        "keyauth_credentials",
        "wrong_expiry",
        "update keyauth_credentials set ttl = null where id = (select min(id::text)::uuid from keyauth_credentials where ttl is not null) returning id",
    ),
    mutation(
        "routes",
        "different",
        "update routes set methods = '{}' where id = (select max(id::text)::uuid from routes where methods is null) returning id",
    ),
    mutation(
        "upstreams",
        "different",
        "update upstreams set name = ws_id || ':' || name where id = (select min(id::text)::uuid from upstreams) returning id",
    ),
    mutation(
        "plugins",
        "different",
        "update plugins set consumer_id = null where id = (select min(id::text)::uuid from plugins where consumer_id is not null) returning id",
    ),
    mutation(
        "services",
        "wrong_workspace",
        "update services s set ws_id = (select id from workspaces w where w.id <> s.ws_id limit 1) where id = (select min(id::text)::uuid from services) returning id",
    ),
    mutation(
        "upstreams",
        "different",
        "update upstreams set healthchecks = jsonb_set(healthchecks, '{active,healthy,interval}', '12345') where id = (select max(id::text)::uuid from upstreams) returning id",
    ),
    mutation(
        "certificates",
        "different",
        "update certificates set cert = left(cert, length(cert) - 30) where id = (select min(id::text)::uuid from certificates) returning id",
    ),
    mutation(
        "snis",
        "missing",
        "delete from snis where id = (select max(id::text)::uuid from snis) returning id",
    ),
    mutation(
        "plugins",
        "wrong_cache_key",
        "update plugins set cache_key = 'stale' where id = (select max(id::text)::uuid from plugins) returning id",
    ),
    mutation(
        "targets",
        "orphan",
        "update targets set upstream_id = gen_random_uuid() where id = (select min(id::text)::uuid from targets) returning id",
    ),
    mutation(
        "services",
        "tags_differ",
        "update tags set tags = '{other}' where entity_id = (select max(id::text)::uuid from services) returning entity_id as id",
    ),
    mutation(
        "oauth2_tokens",
        "different",
        "update oauth2_tokens set access_token = access_token || 'x' where id = (select min(id::text)::uuid from oauth2_tokens) returning id",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn what_went_wrong_is_found_with_table_and_key() {
    let (blue, green) = migrated("3.3").await;
    let mut expected = Vec::new();
    for mutation in MUTATIONS {
        let sql = format!("with done as ({}) select id::text as key from done", mutation.sql);
        let done = unchecked(&green, &sql).await;
        let [key] = done.as_slice() else { panic!("{} changed {done:?}", mutation.sql) };
        expected.push((mutation, key.clone()));
    }
    let verified = verify(&blue, &green, &[]).await.expect_code(3);
    for (mutation, key) in expected {
        assert!(
            verified.has(mutation.table, &key, mutation.kind),
            "{} {key}: {:#?}",
            mutation.sql,
            verified.findings
        );
    }
    assert_eq!(verified.number("missing"), 2);
    assert_eq!(verified.number("extra"), 1);
    let all = verified.findings.iter().map(Value::to_string).collect::<String>();
    assert!(!all.contains("BEGIN"), "a certificate stands in the findings");
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
async fn what_kong_reads_alike_is_no_difference() {
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
async fn tables_of_the_data_plane_fail_nothing() {
    let (blue, green) = migrated("3.3").await;
    green.execute("delete from oauth2_tokens").await.expect("gone");
    let verified = verify(&blue, &green, &[]).await.expect_code(0);
    assert!(verified.ran.json()["traffic"]["missing"].as_u64().unwrap_or(0) > 0);
    assert!(verified.findings.iter().all(|line| line["table"] == "oauth2_tokens"));
}

#[tokio::test(flavor = "multi_thread")]
async fn green_that_was_never_migrated_lacks_everything() {
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
