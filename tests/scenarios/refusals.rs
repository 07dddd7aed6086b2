//! Bad input gets a clear error and changes nothing: each with its message, its exit code, and green as it was.
//!
//! `tests/connections` checks the messages about connecting in detail; here they only have to end `migrate`.

use std::fs;
use std::process::Output;

use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::{Database, PASSWORD};
use serde_json::json;
use sqlx::Connection;
use uuid::Uuid;

use super::databases::{CONSUMER, Contents, WORKSPACE, bare_blue, small_blue};
use super::support::{Ran, kongferry, migrate_arguments, program, ran};

/// Everything that was printed, as text.
fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr).replace("\\\"", "\"")
}

#[track_caller]
fn assert_tells(ran: &Ran, wanted: &[&str]) {
    let said = said(ran);
    for part in wanted {
        assert!(said.contains(part), "\"{part}\" is missing in:\n{said}");
    }
}

/// Runs `migrate`, which must end with this code, say all of this, and leave green as it was.
async fn refuses(blue: &Keyspace, green: &Database, more: &[&str], code: i32, wanted: &[&str]) -> Ran {
    let before = Contents::read(green).await.without_journal();
    let ran = kongferry(&migrate_arguments(blue, green, more)).await.expect_code(code);
    assert_tells(&ran, wanted);
    assert!(ran.stderr.contains("to do:") || ran.stdout.contains("\"remedy\""), "no remedy in {ran:#?}");
    assert_eq!(Contents::read(green).await.without_journal(), before);
    ran
}

async fn sides() -> (Keyspace, Database) {
    (small_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"))
}

/// The address of a green for another role.
fn as_role(green: &Database, role: &str) -> String {
    green.url().replacen("postgres://postgres@", &format!("postgres://{role}@"), 1)
}

/// A role of its own that may log in.
async fn role(green: &Database, rights: &str) -> String {
    let role = format!("role_{}", &Uuid::new_v4().simple().to_string()[..12]);
    green
        .execute(&format!("create role {role} login; {}", rights.replace("ROLE", &role)))
        .await
        .expect("a role");
    role
}

/// Arguments of `migrate` with another address of green.
fn with_green(blue: &Keyspace, url: &str, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["migrate", "--blue", &blue.url(), "--green", url, "--yes", "--format", "json"]
            .map(str::to_owned)
            .to_vec();
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    arguments
}

fn closed_port() -> u16 {
    kongferry_harness::ports::free().expect("a port")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_or_name_of_either_side_is_refused() {
    let (blue, green) = sides().await;
    let before = Contents::read(&green).await;
    let port = closed_port();
    let closed_blue = format!("cassandra://127.0.0.1:{port}/kong");
    let no_keyspace = blue.endpoint().url("no_such_keyspace");
    let closed_green = format!("postgres://postgres@127.0.0.1:{port}/kong");
    let no_database = green.url().replace(green.name(), "no_such_database");
    let (blue_url, green_url) = (blue.url(), green.url().to_owned());
    let cases = [
        (&closed_blue, &green_url, "cannot reach blue"),
        (&no_keyspace, &green_url, "blue has no keyspace \"no_such_keyspace\""),
        (&blue_url, &closed_green, "cannot reach green"),
        (&blue_url, &no_database, "has no database \"no_such_database\""),
    ];
    for (blue, green, wanted) in cases {
        let arguments = ["migrate", "--blue", blue, "--green", green, "--yes", "--accept-rejects"];
        let ran = kongferry(&arguments).await.expect_code(1);
        assert_tells(&ran, &[wanted, "to do:"]);
    }
    assert_eq!(Contents::read(&green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_tls_mode_of_either_side_is_refused() {
    let (blue, green) = sides().await;
    let secured_blue = lab().secured_cassandra().await.expect("a secured Cassandra");
    let secured_green = lab().secured_postgres().await.expect("a secured PostgreSQL").database("postgres");
    let before = Contents::read(&secured_green).await;
    let at_blue =
        |options: &str| format!("cassandra://cassandra@{}/kong{options}", secured_blue.contact_point);
    let at_green = |options: &str| format!("{}{options}", secured_green.url());
    let (blue_url, green_url) = (blue.url(), green.url().to_owned());
    let cases = [
        (at_blue("?tls=require"), green_url.clone(), "wrong", "blue refuses the login"),
        (at_blue(""), green_url.clone(), "cassandra", "TLS"),
        (at_blue("?tls=verify"), green_url, "cassandra", "is not trusted"),
        (blue_url.clone(), at_green("?sslmode=require"), "wrong", "green refuses the login"),
        (blue_url.clone(), at_green("?sslmode=disable"), PASSWORD, "requires TLS"),
        (blue_url, at_green("?sslmode=verify-full"), PASSWORD, "is not trusted"),
    ];
    for (blue, green, password, wanted) in cases {
        let (mut command, folder) = program();
        command.args(["migrate", "--blue", &blue, "--green", &green, "--yes", "--accept-rejects"]);
        command.env("KONGFERRY_BLUE_PASSWORD", password).env("KONGFERRY_GREEN_PASSWORD", password);
        let output = run(command).await;
        let ran = ran(output, &folder.path().join("rejects.jsonl")).expect_code(1);
        assert_tells(&ran, &[wanted, "to do:"]);
        assert!(password != "wrong" || !said(&ran).contains("wrong"), "the password is shown: {ran:#?}");
    }
    assert_eq!(Contents::read(&secured_green).await, before);
}

async fn run(mut command: std::process::Command) -> Output {
    tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("the program")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_that_is_empty_or_not_kongs_is_refused() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let endpoint = lab().cassandra().await.expect("a Cassandra");
    let session = endpoint.session().await.expect("a session");
    let name = format!("other_{}", &Uuid::new_v4().simple().to_string()[..12]);
    let create = format!(
        "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
    );
    session.query_unpaged(create, ()).await.expect("a keyspace");
    let empty = Keyspace::open(endpoint, &name).await.expect("a keyspace");
    refuses(&empty, &green, &[], 4, &[&format!("keyspace \"{name}\" is empty"), "cassandra_keyspace"]).await;
    empty.execute("CREATE TABLE consumers (id uuid PRIMARY KEY)").await.expect("a table");
    refuses(&empty, &green, &[], 4, &["is not Kong's", "no table \"schema_meta\""]).await;
    let half = bare_blue("3.3", &["schema_meta", "workspaces"]).await;
    half.execute("TRUNCATE schema_meta").await.expect("emptied");
    refuses(&half, &green, &[], 4, &["no record of migrations", "not fully bootstrapped"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_that_kong_never_bootstrapped_is_refused() {
    let blue = small_blue("3.3").await;
    let empty = lab().empty_database().await.expect("a database");
    refuses(&blue, &empty, &[], 4, &["is not bootstrapped", "kong migrations bootstrap"]).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    green.execute("delete from schema_meta").await.expect("emptied");
    refuses(&blue, &green, &[], 4, &["is not bootstrapped"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_green_of_another_kong_version_is_refused() {
    let lines = ["2.8", "3.0", "3.1", "3.2", "3.3"];
    for pair in lines.windows(2) {
        for (on_blue, on_green) in [(pair[0], pair[1]), (pair[1], pair[0])] {
            let (blue, green) =
                (small_blue(on_blue).await, lab().fresh_green(on_green).await.expect("green"));
            let core = |fixture: &Fixture| {
                let rows = &fixture.blue["schema_meta"];
                let core = rows.iter().find(|row| row.row["subsystem"] == "core").expect("core");
                core.row["last_executed"].as_str().expect("a name").to_owned()
            };
            let (ours, theirs) = (
                core(&Fixture::shipped(on_blue).expect("a fixture")),
                core(&Fixture::shipped(on_green).expect("a fixture")),
            );
            let wanted = format!("the versions of Kong differ: blue has {ours}, green has {theirs}");
            refuses(
                &blue,
                &green,
                &["--accept-rejects"],
                4,
                &[&wanted, "the version of Kong that runs on blue"],
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_migrations_on_either_side_are_refused() {
    let (blue, green) = sides().await;
    let finish = "kong migrations finish";
    green
        .execute("update schema_meta set pending = '{020_x}' where subsystem = 'core'")
        .await
        .expect("pending");
    refuses(&blue, &green, &[], 4, &["on green are pending: core 020_x", finish]).await;
    green.execute("update schema_meta set pending = null").await.expect("finished");
    let pending = json!({ "key": "schema_meta", "subsystem": "core", "pending": ["020_x"] });
    blue.write_row("schema_meta", &pending).await.expect("pending");
    refuses(&blue, &green, &[], 4, &["on blue are pending: core 020_x", finish]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_lock_on_either_side_is_refused() {
    let (blue, green) = sides().await;
    let lock = json!({ "key": "migrations", "owner": "a-node" });
    blue.write_row("locks", &lock).await.expect("a lock");
    refuses(&blue, &green, &[], 4, &["a migration of Kong is running on blue", "within a minute"]).await;
    blue.execute("TRUNCATE locks").await.expect("released");
    green
        .execute("insert into locks values ('migrations', 'n', now() + interval '1 minute')")
        .await
        .expect("a lock");
    refuses(&blue, &green, &[], 4, &["a migration of Kong is running on green"]).await;
    // What a crash left behind long ago stops no run.
    green.execute("update locks set ttl = now() - interval '1 second'").await.expect("expired");
    kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_created_on_green_is_refused_by_its_key() {
    let (blue, green) = sides().await;
    let by_hand = "00000000-0000-4000-8000-00000000bad1";
    green.insert("consumers", &json!({ "id": by_hand, "username": "local" })).await.expect("a consumer");
    let ran = refuses(&blue, &green, &[], 4, &["green is not empty", "\"consumers\"", by_hand]).await;
    assert_eq!(ran.json()["outcome"], "refused");
    assert!(!said(&ran).contains(CONSUMER), "blue's own consumer explains itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_a_table_that_only_green_has_is_reported() {
    let (blue, green) = sides().await;
    let by_hand = format!("insert into certificates (id, cert) values ('{CONSUMER}', 'local')");
    green.execute(&by_hand).await.expect("a certificate");
    refuses(
        &blue,
        &green,
        &[],
        4,
        &["green is not empty", "certificates: has rows, and blue has no such table"],
    )
    .await;
    kongferry(&migrate_arguments(&blue, &green, &["--skip-table", "certificates"])).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sessions_on_green_are_refused_unless_allowed() {
    let (blue, green) = sides().await;
    let options = green.options().clone().application_name("another-kong");
    let session = sqlx::PgConnection::connect_with(&options).await.expect("a session");
    let wanted =
        ["green is in use: 1 other session", "another-kong (postgres, from 127.0.0.1)", "--green-online"];
    refuses(&blue, &green, &[], 4, &wanted).await;
    let ran = kongferry(&migrate_arguments(&blue, &green, &["--green-online"])).await.expect_code(0);
    assert!(ran.json()["warnings"].to_string().contains("another-kong"), "{ran:#?}");
    assert_eq!(green.count("consumers").await.expect("a count"), 1);
    session.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_default_workspaces_are_listed() {
    let (blue, green) = sides().await;
    let second = "a2a473df-2f8f-4630-a5d2-ce4623000002";
    blue.write_row("workspaces", &json!({ "id": second, "name": "default" })).await.expect("a workspace");
    let wanted = ["blue has 2 workspaces named \"default\"", WORKSPACE, second, "Kong 2.1"];
    refuses(&blue, &green, &["--accept-rejects"], 4, &wanted).await;
    blue.execute("TRUNCATE workspaces").await.expect("none");
    refuses(&blue, &green, &["--accept-rejects"], 4, &["blue has no workspace named \"default\""]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_migrate_requires_yes() {
    let (blue, green) = sides().await;
    let before = Contents::read(&green).await;
    let ran = kongferry(&["migrate", "--blue", &blue.url(), "--green", green.url()]).await.expect_code(2);
    assert_tells(&ran, &["confirmation required", "pass --yes"]);
    assert_eq!(Contents::read(&green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn contradictory_arguments_are_usage_errors() {
    let (blue, green) = sides().await;
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let not_json = write("map.json", "{");
    let not_a_map = write("other.json", r#"{"format": 1, "table": {}}"#);
    let newer = write("newer.json", r#"{"format": 7}"#);
    let cases: &[(&[&str], &[&str])] = &[
        (&["--no-such-flag"], &["--no-such-flag", "--help"]),
        (&["--accept-rejects", "FILE"], &["FILE"]),
        (&["--schema-map", "/nowhere/map.json"], &["/nowhere/map.json"]),
        (&["--schema-map", &not_json], &["map.json cannot be read", "schema-maps/README.md"]),
        (&["--schema-map", &not_a_map], &["other.json cannot be read", "unknown field `table`"]),
        (&["--schema-map", &newer], &["has format 7"]),
    ];
    let before = Contents::read(&green).await;
    for (more, wanted) in cases {
        let ran = kongferry(&migrate_arguments(&blue, &green, more)).await.expect_code(2);
        assert_tells(&ran, wanted);
    }
    assert_eq!(Contents::read(&green).await, before);
    refuses(&blue, &green, &["--skip-table", "consumer"], 4, &["no table \"consumer\" on either side"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unwritable_rejects_file_is_refused_before_anything_is_read() {
    let (blue, green) = sides().await;
    let before = Contents::read(&green).await;
    for file in ["/nowhere/rejects.jsonl", "/tmp"] {
        let ran = kongferry(&with_green(&blue, green.url(), &["--rejects-file", file])).await.expect_code(2);
        assert_tells(&ran, &[&format!("cannot write the rejects file {file}"), "--rejects-file"]);
    }
    assert_eq!(Contents::read(&green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_reviewed_rejects_file_is_refused_by_line() {
    let (blue, green) = sides().await;
    let before = Contents::read(&green).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("reviewed.jsonl");
    let good = r#"{"table":"consumers","key":"k","reason":"duplicate","row":{}}"#;
    let cases = [
        (format!("{good}\n{{\"table\":\n"), "line 2 of"),
        (format!("{good}\n{{\"table\":\"consumers\",\"key\":\"k\"}}\n"), "line 2 of"),
        (good.replace("\"duplicate\"", "\"duplicate\",\"decision\":\"perhaps\""), "line 1 of"),
        (
            good.replace("\"duplicate\"", "\"incomplete_row\",\"decision\":\"keep\""),
            "only a duplicate can be kept",
        ),
    ];
    let accept = format!("--accept-rejects={}", file.display());
    for (text, wanted) in cases {
        fs::write(&file, text).expect("written");
        let ran = kongferry(&with_green(&blue, green.url(), &[&accept])).await.expect_code(2);
        assert_tells(&ran, &[wanted]);
    }
    let ran = kongferry(&with_green(&blue, green.url(), &["--accept-rejects=/nowhere/r.jsonl"]))
        .await
        .expect_code(2);
    assert_tells(&ran, &["cannot read the reviewed rejects file /nowhere/r.jsonl"]);
    assert_eq!(Contents::read(&green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewed_rejects_file_is_not_overwritten() {
    let (blue, green) = sides().await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("reviewed.jsonl");
    let reviewed =
        "{\"table\":\"consumers\",\"key\":\"k\",\"reason\":\"duplicate\",\"decision\":\"keep\",\"row\":{}}\n";
    fs::write(&file, reviewed).expect("written");
    // The same file by another name.
    let other_name = folder.path().join(".").join("reviewed.jsonl").display().to_string();
    let accept = format!("--accept-rejects={}", file.display());
    let arguments = with_green(&blue, green.url(), &[&accept, "--rejects-file", &other_name]);
    let ran = kongferry(&arguments).await.expect_code(2);
    assert_tells(&ran, &["is the reviewed one", "--rejects-file"]);
    assert_eq!(fs::read_to_string(&file).expect("the file"), reviewed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_run_keeps_the_rejects_file_of_an_earlier_one() {
    let (blue, green) = sides().await;
    green
        .execute("update schema_meta set pending = '{020_x}' where subsystem = 'core'")
        .await
        .expect("pending");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rejects.jsonl");
    fs::write(&file, "of an earlier plan\n").expect("written");
    let arguments = with_green(&blue, green.url(), &["--rejects-file", &file.display().to_string()]);
    kongferry(&arguments).await.expect_code(4);
    assert_eq!(fs::read_to_string(&file).expect("the file"), "of an earlier plan\n");
}

const READ_ONLY: &str =
    "grant usage on schema public to ROLE; grant select on all tables in schema public to ROLE;";
const READ_WRITE: &str = "grant select, insert, update, delete on all tables in schema public to ROLE;";

/// The statements of a remedy, from this word to the end of the line.
fn statement(ran: &Ran, first: &str) -> String {
    let found = ran.stderr.lines().find_map(|line| Some(&line[line.find(first)?..=line.rfind(';')?]));
    found.unwrap_or_else(|| panic!("no {first} in {}", ran.stderr)).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_role_is_refused_with_working_grants() {
    let (blue, green) = sides().await;
    let role = role(&green, READ_ONLY).await;
    let arguments = with_green(&blue, &as_role(&green, &role), &[]);
    let before = Contents::read(&green).await;
    let ran = kongferry(&arguments).await.expect_code(4);
    assert_tells(
        &ran,
        &[
            &format!("the role \"{role}\" lacks write privileges on"),
            "may not create or use the schema \"kongferry\"",
        ],
    );
    assert_eq!(Contents::read(&green).await, before);
    green.execute(&statement(&ran, "GRANT SELECT")).await.expect("the statement works");
    green.execute(&statement(&ran, "CREATE SCHEMA")).await.expect("the statement works");
    kongferry(&arguments).await.expect_code(0);
    assert_eq!(green.count("consumers").await.expect("a count"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_access_to_the_kongferry_schema_is_refused_with_a_working_grant() {
    let (blue, green) = sides().await;
    let role = role(&green, READ_WRITE).await;
    green.execute("create schema kongferry").await.expect("a schema");
    let arguments = with_green(&blue, &as_role(&green, &role), &[]);
    let before = Contents::read(&green).await;
    let ran = kongferry(&arguments).await.expect_code(4);
    assert_tells(&ran, &["\"kongferry\" for kongferry's own tables on green"]);
    assert_eq!(Contents::read(&green).await, before);
    green.execute(&statement(&ran, "GRANT")).await.expect("the statement works");
    kongferry(&arguments).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_read_privileges_is_refused() {
    let (blue, green) = sides().await;
    let role = role(&green, "").await;
    let before = Contents::read(&green).await;
    let ran = kongferry(&with_green(&blue, &as_role(&green, &role), &[])).await.expect_code(4);
    assert_tells(&ran, &["permission denied for table schema_meta", &role, "to do:"]);
    assert_eq!(Contents::read(&green).await, before);
}
