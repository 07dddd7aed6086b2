//! Kong's schema, read from one server and built again on another; and every change of a definition noticed.

use std::collections::BTreeSet;

use kongferry::green::definitions::Definitions;
use kongferry::green::kong_schema;
use kongferry::green::local::{LocalPostgres, Options, SUPERUSER};
use kongferry::green::schema_dump::{SchemaDump, copy_rows};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

const NASTY: &str = include_str!("fixtures/schema_dump/nasty.sql");
const NASTY_SCHEMA: &str = "Kong's \"own\"";
/// What a rebuilt schema does not have from the original.
const NOT_REBUILT: &[&str] = &["owner", "grants"];

fn kong(line: &str, enterprise: bool) -> String {
    kong_schema::statements(line, enterprise).expect("a line that is built in")
}

async fn server() -> LocalPostgres {
    LocalPostgres::start(Options::scratch()).await.expect("a PostgreSQL")
}

async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.unwrap_or_else(|e| panic!("{e:?} from {sql:.200}"));
}

async fn scalar<T>(conn: &mut PgConnection, sql: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(conn).await;
    query.unwrap_or_else(|e| panic!("{e:?} from {sql}"))
}

async fn connect(server: &LocalPostgres, database: &str) -> PgConnection {
    PgConnection::connect_with(&server.connect_options(database)).await.expect("a connection")
}

/// A connection to a new database with these tables.
async fn database(server: &LocalPostgres, name: &str, sql: &str) -> PgConnection {
    run(&mut connect(server, "postgres").await, &format!("create database \"{name}\"")).await;
    let mut conn = connect(server, name).await;
    run(&mut conn, sql).await;
    run(&mut conn, "reset search_path").await;
    conn
}

async fn read(conn: &mut PgConnection, schema: &str) -> SchemaDump {
    SchemaDump::read(conn, schema, &BTreeSet::new())
        .await
        .unwrap_or_else(|e| panic!("{e}: {:?} {:?}", e.details(), e.remedy_text()))
}

/// Builds the schema again, rows included, and returns the number of rows.
async fn rebuild(green: &mut PgConnection, scratch: &mut PgConnection, schema: &str) -> u64 {
    let dump = read(green, schema).await;
    assert_eq!(dump.skipped(), Vec::<String>::new());
    let explain = |e: kongferry::error::Error| panic!("{e}: {:?}", e.details());
    dump.restore_pre_data(scratch).await.unwrap_or_else(explain);
    let mut rows = 0;
    for table in dump.tables() {
        rows += copy_rows(green, scratch, schema, table).await.expect("rows");
    }
    dump.restore_post_data(scratch).await.unwrap_or_else(explain);
    rows
}

async fn definitions(conn: &mut PgConnection, schema: &str) -> Definitions {
    Definitions::read(conn, schema).await.unwrap_or_else(|e| panic!("{e}: {:?}", e.details()))
}

fn sentences(before: &Definitions, after: &Definitions) -> Vec<String> {
    before.differences(after, &BTreeSet::new()).iter().map(ToString::to_string).collect()
}

/// What all rows of each table come to, as text.
async fn contents(conn: &mut PgConnection, schema: &str, tables: &[String]) -> Vec<String> {
    let mut contents = Vec::new();
    for table in tables {
        let name = format!("\"{}\".\"{table}\"", schema.replace('"', "\"\""));
        let sql = format!(
            "select count(*) || ' rows ' || coalesce(md5(string_agg(t::text, E'\\n' order by t::text)), '') from {name} t"
        );
        contents.push(format!("{table}: {}", scalar::<String>(conn, &sql).await));
    }
    contents
}

#[tokio::test]
async fn every_line_of_kong_is_rebuilt_as_it_was() {
    let server = server().await;
    for (line, enterprise) in ["2.8", "3.0", "3.1", "3.2", "3.3"].iter().flat_map(|l| [(l, false), (l, true)])
    {
        let name = format!("{line} {enterprise}");
        let mut green = database(&server, &format!("green {name}"), &kong(line, enterprise)).await;
        let mut scratch = database(&server, &format!("scratch {name}"), "").await;
        rebuild(&mut green, &mut scratch, "public").await;
        let (was, is) = (definitions(&mut green, "public").await, definitions(&mut scratch, "public").await);
        assert_eq!(sentences(&was, &is), Vec::<String>::new(), "Kong {name}");
        assert_eq!(was.digest(), is.digest(), "Kong {name}");
    }
}

/// Tables, columns, defaults, constraints, indexes and triggers, in two schemas, and what the triggers do.
#[tokio::test]
async fn every_built_in_schema_is_that_of_its_catalog() {
    let server = LocalPostgres::start(Options::default()).await.expect("a PostgreSQL");
    let mut check = tokio::process::Command::new("python3");
    check.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/sql/kong/check.py"));
    check.env("PGHOST", "127.0.0.1").env("PGPORT", server.port().to_string()).env("PGUSER", SUPERUSER);
    let ran = check.output().await.expect("python3");
    let printed = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(printed.matches(": equal").count(), 20, "{printed}");
}

#[tokio::test]
async fn a_schema_with_everything_in_it_is_rebuilt_with_its_rows() {
    let server = server().await;
    let mut green = database(&server, "green", NASTY).await;
    let mut scratch = database(&server, "scratch", "").await;
    let rows = rebuild(&mut green, &mut scratch, NASTY_SCHEMA).await;
    let was = definitions(&mut green, NASTY_SCHEMA).await.without(NOT_REBUILT);
    let is = definitions(&mut scratch, NASTY_SCHEMA).await.without(NOT_REBUILT);
    assert_eq!(sentences(&was, &is), Vec::<String>::new());

    let dump = read(&mut green, NASTY_SCHEMA).await;
    assert!(dump.tables().iter().all(|table| !table.starts_with("Events ")), "a partition is copied twice");
    let original = contents(&mut green, NASTY_SCHEMA, dump.tables()).await;
    assert_eq!(original, contents(&mut scratch, NASTY_SCHEMA, dump.tables()).await);
    let only_here = "select count(*) from only \"Kong's \"\"own\"\"\".base";
    assert_eq!(scalar::<i64>(&mut scratch, only_here).await, 1);
    assert!(rows > 100, "{rows} rows");

    // Neither a serial nor an identity column begins anew where there are rows.
    run(&mut scratch, "insert into \"Kong's \"\"own\"\"\".\"Log\" (entry) values ('next')").await;
    run(&mut scratch, "set search_path to \"Kong's \"\"own\"\"\"; insert into base values (7)").await;
}

#[tokio::test]
async fn a_read_only_account_reads_all_there_is() {
    let server = server().await;
    let mut owner = database(&server, "green", NASTY).await;
    run(
        &mut owner,
        "create role reader login password 'reader'; grant usage on schema \"Kong's \"\"own\"\"\" to reader",
    )
    .await;
    run(&mut owner, "grant select on all tables in schema \"Kong's \"\"own\"\"\" to reader").await;
    let options = server.connect_options("green").username("reader").password("reader");
    let mut reader = PgConnection::connect_with(&options).await.expect("a login");
    run(&mut reader, "set default_transaction_read_only = on").await;
    let mut scratch = database(&server, "scratch", "").await;
    assert!(rebuild(&mut reader, &mut scratch, NASTY_SCHEMA).await > 100);
    let theirs = definitions(&mut reader, NASTY_SCHEMA).await;
    assert_eq!(sentences(&definitions(&mut owner, NASTY_SCHEMA).await, &theirs), Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_rebuilt_is_named_with_the_way_round_it() {
    let server = server().await;
    let sql = "create schema other; create type other.mood as enum ('x'); create sequence other.counter; \
        create function other.stamp() returns trigger language plpgsql as 'begin return new; end'; \
        create table fine (id int); create table strange (id int primary key, mood other.mood); \
        create table counted (id int default nextval('other.counter')); \
        create table stamped (id int); \
        create trigger stamp before insert on stamped for each row execute function other.stamp(); \
        create function of_mood(other.mood) returns int language sql immutable as 'select 1'; \
        create function of_all() returns setof strange language sql as 'select * from strange'; \
        create table called (id int, n int check (of_mood('x') = n)); \
        create table child (id int references strange);";
    let mut green = database(&server, "green", sql).await;

    let error = SchemaDump::read(&mut green, "public", &BTreeSet::new()).await.expect_err("a refusal");
    assert_eq!(error.kind(), kongferry::error::Kind::Refused);
    assert_eq!(
        error.details(),
        [
            "table \"called\" needs type other.mood, which is not rebuilt on the scratch server",
            "table \"called\" needs function \"of_mood(other.mood)\", which needs type other.mood, \
             which is not rebuilt on the scratch server",
            "table \"counted\" needs sequence other.counter, which is not rebuilt on the scratch server",
            "table \"stamped\" needs function other.stamp(), which is not rebuilt on the scratch server",
            "table \"strange\" needs type other.mood, which is not rebuilt on the scratch server",
        ]
    );
    let remedy = error.remedy_text().expect("a remedy");
    assert!(remedy.contains("--skip-table strange") && remedy.contains("plan --quick"), "{remedy}");

    let skip = ["called", "counted", "stamped", "strange"].map(str::to_owned).into();
    let dump = SchemaDump::read(&mut green, "public", &skip).await.expect("the rest");
    assert_eq!(dump.tables(), ["child", "fine"]);
    assert_eq!(
        dump.skipped(),
        [
            "function \"of_all()\" needs type public.strange, which is not rebuilt on the scratch server",
            "function \"of_mood(other.mood)\" needs type other.mood, which is not rebuilt on the scratch server",
        ]
    );
    let mut scratch = database(&server, "scratch", "").await;
    dump.restore_pre_data(&mut scratch).await.expect("without the foreign key's parent");
    dump.restore_post_data(&mut scratch).await.expect("without the foreign key");
}

#[tokio::test]
async fn extensions_come_along_where_they_are_used() {
    let server = server().await;
    let sql = "create schema ext; create extension \"uuid-ossp\"; create extension hstore; create extension citext; \
        create extension pg_trgm schema ext; create extension ltree; create extension pgcrypto schema ext; \
        create table a (id uuid default uuid_generate_v4(), pairs hstore[], name text); \
        create index on a using gin (name ext.gin_trgm_ops); \
        create function f() returns void language plpgsql as 'begin perform citext_eq(null, null); end'; \
        create function plus(int, int) returns int language sql as 'select 1'; \
        create aggregate total(int) (sfunc = plus, stype = int); \
        insert into a values (default, array['a=>1'::hstore], 'x')";
    let mut green = database(&server, "green", sql).await;
    let mut scratch = database(&server, "scratch", "").await;
    let dump = read(&mut green, "public").await;
    let extensions: Vec<_> =
        dump.pre_data().iter().filter(|statement| statement.object.starts_with("extension")).collect();
    let names: Vec<_> = extensions.iter().map(|statement| statement.object.as_str()).collect();
    // One by a default, one by a column's type, one by a function's body, one by an index; none by mere presence.
    assert_eq!(
        names,
        ["extension \"uuid-ossp\"", "extension \"hstore\"", "extension \"citext\"", "extension \"pg_trgm\""]
    );
    assert_eq!(dump.skipped(), ["function \"total(integer)\" is an aggregate"]);

    dump.restore_pre_data(&mut scratch).await.expect("all but the aggregate");
    assert_eq!(copy_rows(&mut green, &mut scratch, "public", "a").await.expect("rows"), 1);
    dump.restore_post_data(&mut scratch).await.expect("the index");
}

#[tokio::test]
async fn a_scratch_that_is_not_empty_is_left_as_it_was() {
    let server = server().await;
    let mut green = database(&server, "green", "create table a (id int); create table b (id int)").await;
    let mut scratch = database(&server, "scratch", "create table b (other text)").await;
    let error =
        read(&mut green, "public").await.restore_pre_data(&mut scratch).await.expect_err("b is there");
    assert_eq!(error.message(), "the scratch server rejects green's table \"b\"");
    assert_eq!(error.details(), ["PostgreSQL reports: relation \"b\" already exists (SQLSTATE 42P07)"]);
    assert_eq!(scalar::<i64>(&mut scratch, "select count(*) from pg_tables where tablename = 'a'").await, 0);
}

#[tokio::test]
async fn no_value_is_in_the_error_when_rows_cannot_be_copied() {
    let server = server().await;
    let mut green =
        database(&server, "green", "create table t (secret text); insert into t values ('pa55word')").await;
    let mut scratch =
        database(&server, "scratch", "create table t (secret text check (length(secret) < 3))").await;
    let error = copy_rows(&mut green, &mut scratch, "public", "t").await.expect_err("too long");
    assert_eq!(error.message(), "cannot copy the rows of table \"t\"");
    assert!(!format!("{error:?}").contains("pa55word"), "{error:?}");
    let mut green = connect(&server, "green").await;
    let error = copy_rows(&mut green, &mut scratch, "public", "gone").await.expect_err("no such table");
    assert_eq!(error.message(), "cannot copy the rows of table \"gone\": there is no such table on green");
}

/// A statement, and the beginning of the one sentence that tells its effect.
const MUTATIONS: &[(&str, &str)] = &[
    ("drop index routes_service_id_idx", "index \"routes_service_id_idx\" of table \"routes\" was dropped"),
    ("create index extra on routes (name)", "index \"extra\" of table \"routes\" was created"),
    (
        "alter index routes_tags_idx set (fastupdate = off)",
        "index \"routes_tags_idx\" of table \"routes\": its definition",
    ),
    (
        "cluster routes using routes_service_id_idx",
        "index \"routes_service_id_idx\" of table \"routes\": its state",
    ),
    (
        "alter table routes replica identity using index routes_pkey",
        "index \"routes_pkey\" of table \"routes\": its state",
    ),
    ("alter table routes replica identity full", "table \"routes\": its replica identity"),
    (
        "alter table routes drop constraint routes_service_id_fkey",
        "constraint \"routes_service_id_fkey\" of table \"routes\" was dropped",
    ),
    (
        "alter table routes rename constraint routes_service_id_fkey to renamed",
        "constraint \"renamed\" of table \"routes\" was created",
    ),
    (
        "alter table routes alter constraint routes_service_id_fkey deferrable",
        "constraint \"routes_service_id_fkey\" of table \"routes\": its definition",
    ),
    (
        "alter table routes drop constraint routes_service_id_fkey; alter table routes add constraint \
         routes_service_id_fkey foreign key (service_id, ws_id) references services (id, ws_id) not valid",
        "constraint \"routes_service_id_fkey\" of table \"routes\": its validated was \"true\" and is now \"false\"",
    ),
    (
        "comment on constraint routes_pkey on routes is 'x'",
        "constraint \"routes_pkey\" of table \"routes\": it had no comment",
    ),
    (
        "alter table routes disable trigger routes_sync_tags_trigger",
        "trigger \"routes_sync_tags_trigger\" of table \"routes\": its state was \"enabled\" and is now \"disabled\"",
    ),
    (
        "alter table routes enable always trigger routes_sync_tags_trigger",
        "trigger \"routes_sync_tags_trigger\" of table \"routes\": its state was \"enabled\" and is now \"enabled always\"",
    ),
    (
        "alter table routes enable replica trigger routes_sync_tags_trigger",
        "trigger \"routes_sync_tags_trigger\" of table \"routes\": its state was \"enabled\" and is now \"enabled on replicas\"",
    ),
    (
        "drop trigger routes_sync_tags_trigger on routes",
        "trigger \"routes_sync_tags_trigger\" of table \"routes\" was dropped",
    ),
    (
        "comment on trigger routes_sync_tags_trigger on routes is 'x'",
        "trigger \"routes_sync_tags_trigger\" of table \"routes\": it had no comment",
    ),
    (
        "alter table routes disable trigger all",
        "constraint \"routes_service_id_fkey\" of table \"routes\": its enforcement",
    ),
    (
        "alter table consumers alter created_at set default now()",
        "column \"created_at\" of table \"consumers\": its default was",
    ),
    (
        "alter table consumers alter created_at drop default",
        "column \"created_at\" of table \"consumers\": its default was",
    ),
    (
        "alter table routes alter ws_id set default gen_random_uuid()",
        "column \"ws_id\" of table \"routes\": it had no default",
    ),
    (
        "alter table ca_certificates alter cert drop not null",
        "column \"cert\" of table \"ca_certificates\": its nullability was",
    ),
    (
        "alter table routes alter name type varchar(99)",
        "column \"name\" of table \"routes\": its type was \"text\"",
    ),
    (
        "alter table routes alter name type text collate \"C\"",
        "column \"name\" of table \"routes\": it had no collation",
    ),
    (
        "alter table routes alter name set storage external",
        "column \"name\" of table \"routes\": its storage was",
    ),
    (
        "alter table routes alter name set compression pglz",
        "column \"name\" of table \"routes\": it had no compression",
    ),
    (
        "alter table routes alter name set statistics 9",
        "column \"name\" of table \"routes\": it had no statistics target",
    ),
    (
        "alter table routes alter name set (n_distinct = 5)",
        "column \"name\" of table \"routes\": it had no options",
    ),
    ("grant select (name) on routes to somebody", "column \"name\" of table \"routes\": it had no grants"),
    ("comment on column routes.name is 'x'", "column \"name\" of table \"routes\": it had no comment"),
    ("alter table routes add extra text", "column \"extra\" of table \"routes\" was created"),
    ("alter table routes rename name to title", "column \"title\" of table \"routes\" was created"),
    (
        "alter table routes alter path_handling set default 'v1'",
        "column \"path_handling\" of table \"routes\": its default",
    ),
    (
        "alter table routes set (fillfactor = 50)",
        "table \"routes\": it had no options and now has \"fillfactor=50\"",
    ),
    (
        "alter table routes set (toast.autovacuum_enabled = off)",
        "table \"routes\": it had no options of its toast table",
    ),
    (
        "alter table acme_storage set unlogged",
        "table \"acme_storage\": its persistence was \"p\" and is now \"u\"",
    ),
    (
        "alter table routes owner to somebody",
        "table \"routes\": its owner was \"postgres\" and is now \"somebody\"",
    ),
    ("grant select on routes to somebody", "table \"routes\": it had no grants"),
    ("comment on table routes is 'x'", "table \"routes\": it had no comment and now has \"x\""),
    ("alter table routes enable row level security", "table \"routes\": it had no row security"),
    ("alter table routes force row level security", "table \"routes\": it had no row security"),
    ("create policy p on routes for select using (true)", "policy \"p\" of table \"routes\" was created"),
    ("create rule r as on delete to routes do instead nothing", "rule \"r\" of table \"routes\" was created"),
    (
        "create statistics s on name, protocols from routes",
        "extended statistics \"s\" of table \"routes\" was created",
    ),
    ("alter table consumers inherit acls_parent", "table \"consumers\": it had no parents"),
    ("drop table acme_storage", "table \"acme_storage\" was dropped"),
    ("create table extra (id int)", "table \"extra\" was created"),
    ("create view extra as select 1", "view \"extra\" was created"),
    ("create sequence extra", "sequence \"extra\" was created"),
    ("alter sequence counter increment by 2", "sequence parameters \"counter\": its increment was \"1\""),
    ("alter sequence counter owned by routes.name", "sequence parameters \"counter\": it had no owned by"),
    ("alter type mood add value 'new'", "type \"mood\": its labels"),
    ("alter domain positive drop not null", "type \"positive\": its nullability"),
    ("alter domain positive add check (value > 7) not valid", "type \"positive\": it had no constraints"),
    ("create type extra as (a int)", "type \"extra\" was created"),
    (
        "create operator @@@ (leftarg = int, rightarg = int, function = int4pl)",
        "object \"operator public.@@@(integer,integer)\" was created",
    ),
    (
        "create or replace function sync_tags() returns trigger language plpgsql as 'begin return old; end'",
        "function \"sync_tags()\": its definition",
    ),
    ("alter function sync_tags() security definer", "function \"sync_tags()\": its definition"),
    ("alter function sync_tags() owner to somebody", "function \"sync_tags()\": its owner"),
    ("revoke execute on function sync_tags() from public", "function \"sync_tags()\": it had no grants"),
    ("comment on function sync_tags() is 'x'", "function \"sync_tags()\": it had no comment"),
    ("grant create on schema public to somebody", "schema \"public\": its grants"),
    ("alter schema public owner to somebody", "schema \"public\": its owner"),
    ("alter default privileges in schema public grant select on tables to somebody", "default grants"),
    ("create extension hstore", "extension \"hstore\" was created"),
];

#[tokio::test]
async fn every_change_of_a_definition_is_noticed_and_named() {
    let server = server().await;
    let mut conn = database(&server, "green", &kong("3.3", false)).await;
    let more = "create role somebody; create type mood as enum ('a'); create domain positive as int not null; \
        create sequence counter; create table acls_parent (username text)";
    run(&mut conn, more).await;
    let before = definitions(&mut conn, "public").await;
    let mut unnoticed = Vec::new();
    for (sql, expected) in MUTATIONS {
        let mut tx = conn.begin().await.expect("a transaction");
        run(&mut tx, sql).await;
        let after = definitions(&mut tx, "public").await;
        tx.rollback().await.expect("the way back");
        let found = sentences(&before, &after);
        if !found.iter().any(|sentence| sentence.starts_with(expected)) {
            unnoticed.push((sql, found));
        }
        assert_ne!(before.digest(), after.digest(), "{sql}");
    }
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
    assert_eq!(definitions(&mut conn, "public").await, before);
}

#[tokio::test]
async fn rows_and_statistics_are_no_definition() {
    let server = server().await;
    let mut conn = database(&server, "green", &kong("3.3", false)).await;
    let before = definitions(&mut conn, "public").await;
    run(
        &mut conn,
        "insert into tags select gen_random_uuid(), 'x', array[i::text] from generate_series(1, 500) i",
    )
    .await;
    run(&mut conn, "insert into cluster_events (id, node_id, at, expire_at) select gen_random_uuid(), gen_random_uuid(), now(), now()").await;
    run(&mut conn, "vacuum full tags").await;
    run(&mut conn, "vacuum analyze").await;
    run(&mut conn, "truncate cluster_events; reindex table tags").await;
    assert_eq!(sentences(&before, &definitions(&mut conn, "public").await), Vec::<String>::new());
}

#[tokio::test]
async fn reading_leaves_the_transactions_settings_alone() {
    let server = server().await;
    let mut conn = database(&server, "green", "create table t (at timestamptz default '2024-01-01Z')").await;
    let outside = definitions(&mut conn, "public").await;
    let mut tx = conn.begin().await.expect("a transaction");
    run(&mut tx, "set local search_path to 'nowhere'; set local time zone 'Asia/Tokyo'; set local datestyle to 'German'").await;
    assert_eq!(definitions(&mut tx, "public").await, outside);
    assert_eq!(scalar::<String>(&mut tx, "show search_path").await, "nowhere");
    assert_eq!(scalar::<String>(&mut tx, "show timezone").await, "Asia/Tokyo");
}

#[tokio::test]
async fn definitions_are_read_in_a_moment() {
    let server = server().await;
    let mut conn = database(&server, "green", &kong("3.3", true)).await;
    let mut quickest = std::time::Duration::MAX;
    for _ in 0..5 {
        let begin = std::time::Instant::now();
        definitions(&mut conn, "public").await;
        quickest = quickest.min(begin.elapsed());
    }
    println!("Kong Enterprise's definitions are read in {quickest:?}.");
    assert!(quickest.as_millis() < 500, "{quickest:?}");
}
