//! `plan`: it reports what `migrate` then does, only reads both sides, and leaves nothing on the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::{Database, PASSWORD};
use nix::sys::signal::Signal;
use serde_json::json;
use sqlx::Connection;

use super::databases::{CONSUMER, Contents, WORKSPACE, lasting_blue, small_blue, small_blue_on};
use super::running::{Running, until};
use super::support::{Ran, kongferry, migrate_arguments, program};

/// `plan` between these two, with more arguments.
fn plan_arguments(blue: &Keyspace, green: Option<&Database>, more: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["plan", "--blue", &blue.url(), "--format", "json"].map(str::to_owned).to_vec();
    arguments.extend(green.iter().flat_map(|green| ["--green".to_owned(), green.url().to_owned()]));
    arguments.extend(more.iter().map(|one| (*one).to_owned()));
    arguments
}

/// What a plan and a migration both say.
const COMMON: &[&str] =
    &["format", "kong", "kongferry", "blue", "green", "totals", "tables", "rejects", "repairs", "notes"];

#[track_caller]
fn assert_same(plan: &Ran, migration: &Ran, what: &[&str]) {
    let (plan, migration) = (plan.json(), migration.json());
    for part in what {
        assert_eq!(plan[part], migration[part], "{part}");
    }
}

/// Checks a result against its schema.
#[track_caller]
fn assert_documented(ran: &Ran) {
    ran.json();
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_does_exactly_what_plan_reported() {
    let (blue, green) = (lasting_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("reviewed.jsonl").display().to_string();
    let before = Contents::read(&green).await;
    let plan =
        kongferry(&plan_arguments(&blue, Some(&green), &["--rejects-file", &file])).await.expect_code(3);
    assert_eq!(Contents::read(&green).await, before, "green is byte for byte as it was");
    assert_documented(&plan);
    let report = plan.json();
    assert_eq!(report["outcome"], "rehearsed");
    assert_eq!(report["rejects_file"], file);
    assert_eq!(report["not_checked"], json!([]));
    let lines = fs::read_to_string(&file).expect("the rejects file").lines().count();
    assert_eq!(report["totals"]["rejected"], lines);
    assert!(lines > 0);
    assert_eq!(fs::metadata(&file).expect("the rejects file").permissions().mode() & 0o777, 0o600);

    // A reject more than was reviewed: nothing is applied, and it alone is named.
    let accept = format!("--accept-rejects={file}");
    let late = "00000000-0000-4000-8000-0000000001ff";
    let half = json!({ "id": late, "ws_id": WORKSPACE, "username": format!("{WORKSPACE}:late\0") });
    blue.write_row("consumers", &half).await.expect("a row");
    let ran = kongferry(&migrate_arguments(&blue, &green, &[&accept])).await.expect_code(4);
    assert_documented(&ran);
    let refusal = ran.json()["refusal"].clone();
    let problem = format!("1 of {} rejected rows are not in the reviewed file", lines + 1);
    assert!(refusal["problem"].to_string().contains(&problem), "{refusal}");
    assert!(refusal["details"].to_string().contains(late), "{refusal}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);

    blue.execute(&format!("DELETE FROM consumers WHERE id = {late}")).await.expect("deleted");
    let ran = kongferry(&migrate_arguments(&blue, &green, &[&accept])).await.expect_code(3);
    assert_documented(&ran);
    assert_same(&plan, &ran, COMMON);
    for table in report["tables"].as_array().expect("tables") {
        let name = table["table"].as_str().expect("a name");
        let stands = table["applied"].as_i64().zip(table["repaired"].as_i64()).map(|(a, r)| a + r);
        if table["reason"].is_null() && !matches!(name, "parameters" | "workspaces") {
            assert_eq!(Some(green.count(name).await.expect("a count")), stands, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_without_green_uses_the_schema_of_blues_version() {
    for line in ["2.8", "3.0", "3.1", "3.2", "3.3"] {
        let blue = lasting_blue(line).await;
        let plan = kongferry(&plan_arguments(&blue, None, &[])).await.expect_code(3);
        assert_documented(&plan);
        let report = plan.json();
        assert_eq!(report["kong"], line);
        assert_eq!(report["green"], json!({ "server": "", "version": "", "name": "" }), "there is none yet");
        assert!(report["not_checked"].to_string().contains("green itself"), "{line}: {report}");
        let green = lab().fresh_green(line).await.expect("green");
        let ran = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(3);
        let but_green: Vec<&str> = COMMON.iter().copied().filter(|part| *part != "green").collect();
        assert_same(&plan, &ran, &but_green);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_plan_checks_single_rows_and_lists_what_it_skipped() {
    let (blue, green) = (lasting_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    // A consumer whose name exists already shows nothing by itself; one with U+0000 does.
    let double = json!({ "id": "00000000-0000-4000-8000-0000000002ff", "ws_id": WORKSPACE, "username": format!("{WORKSPACE}:twice") });
    blue.write_row("consumers", &double).await.expect("a row");
    let again = json!({ "id": "00000000-0000-4000-8000-0000000003ff", "ws_id": WORKSPACE, "username": format!("{WORKSPACE}:twice") });
    blue.write_row("consumers", &again).await.expect("a row");
    let before = Contents::read(&green).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rejects.jsonl").display().to_string();
    let arguments = plan_arguments(&blue, Some(&green), &["--quick", "--rejects-file", &file]);
    let quick = kongferry(&arguments).await.expect_code(3);
    assert_eq!(Contents::read(&green).await, before);
    assert_documented(&quick);
    let whole = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(3);
    let not_checked = quick.json()["not_checked"].to_string();
    assert!(not_checked.contains("duplicates, references"), "{not_checked}");
    assert_same(&quick, &whole, &["notes", "repairs", "columns", "kong", "blue", "green"]);
    let rejected = |ran: &Ran| ran.json()["totals"]["rejected"].as_u64().expect("a count");
    assert_eq!(rejected(&whole), rejected(&quick) + 2);
    assert_eq!(fs::read_to_string(&file).expect("the file").lines().count() as u64, rejected(&quick));
    assert_eq!(quick.table("consumers")["source"], whole.table("consumers")["source"]);

    let ran = kongferry(&plan_arguments(&blue, None, &["--quick"])).await.expect_code(2);
    assert_documented(&ran);
    assert!(ran.stderr.contains("plan --quick requires an address of green"), "{ran:#?}");
    kongferry(&plan_arguments(&blue, Some(&green), &["--quick", "--scratch", "postgres://x/y"]))
        .await
        .expect_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_lists_the_columns_of_every_table_with_types_and_rules() {
    let (blue, green) = (small_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let arguments = ["plan", "--blue", &blue.url(), "--green", green.url(), "--columns", "--quick"];
    let ran = kongferry(&arguments).await.expect_code(0);
    for wanted in [
        "on blue",
        "rule",
        "on green",
        "keyauth_credentials",
        "without the row's \"<ws_id>:\"",
        "TTL of cells",
        "timestamp with time zone",
    ] {
        assert!(ran.stdout.contains(wanted), "{wanted} is missing in {}", ran.stdout);
    }
    let report = kongferry(&plan_arguments(&blue, Some(&green), &["--quick"])).await.expect_code(0).json();
    let tables = report["columns"].as_array().expect("tables");
    let consumers = tables.iter().find(|table| table["table"] == "consumers").expect("consumers");
    let username = json!({ "column": "username", "blue": "text", "rule": "without the row's \"<ws_id>:\"", "green": "text" });
    assert!(consumers["columns"].as_array().expect("columns").contains(&username), "{consumers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_given_scratch_database_must_be_empty_and_is_emptied_afterwards() {
    let (blue, green) = (lasting_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let scratch = lab().empty_database().await.expect("a database");
    let (before, empty) = (Contents::read(&green).await, Contents::read(&scratch).await);
    let own = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(3);
    // Twice, because the first one must leave it as it was; credentials have been in it.
    for _ in 0..2 {
        let given = kongferry(&plan_arguments(&blue, Some(&green), &["--scratch", scratch.url()]))
            .await
            .expect_code(3);
        assert_documented(&given);
        assert_same(&own, &given, COMMON);
        assert_eq!(Contents::read(&scratch).await, empty);
    }
    let without_green =
        kongferry(&plan_arguments(&blue, None, &["--scratch", scratch.url()])).await.expect_code(3);
    assert_same(&own, &without_green, &["totals", "tables"]);
    assert_eq!(Contents::read(&scratch).await, empty);
    let ran =
        kongferry(&plan_arguments(&blue, Some(&green), &["--scratch", green.url()])).await.expect_code(2);
    assert!(ran.stderr.contains("the scratch database is not empty"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_needs_only_read_privileges_on_both_sides() {
    let endpoint = lab().secured_cassandra().await.expect("a secured Cassandra");
    let blue = small_blue_on(endpoint, "3.3").await;
    let role = format!("reader_{}", blue.name());
    for cql in [
        format!("CREATE ROLE {role} WITH PASSWORD = 'r' AND LOGIN = true"),
        format!("GRANT SELECT ON KEYSPACE {} TO {role}", blue.name()),
    ] {
        blue.execute(&cql).await.expect("a role");
    }
    let server = lab().secured_postgres().await.expect("a secured PostgreSQL");
    let green = kongferry_harness::green::fresh_green(server, &format!("green_{}", blue.name()), "3.3").await;
    let green = green.expect("green");
    let sql = format!(
        "create role {role} login password 'r'; grant select on all tables in schema public to {role};"
    );
    green.execute(&sql).await.expect("a role");
    let blue_url = format!("cassandra://{role}@{}/{}?tls=require", endpoint.contact_point, blue.name());
    let green_url =
        green.url().replacen("postgres://postgres@", &format!("postgres://{role}@"), 1) + "?sslmode=require";
    let before = Contents::read(&green).await;
    for more in [&[] as &[&str], &["--quick"]] {
        let (mut command, folder) = program();
        command.args(["plan", "--blue", &blue_url, "--green", &green_url, "--format", "json"]).args(more);
        command.env("KONGFERRY_BLUE_PASSWORD", "r").env("KONGFERRY_GREEN_PASSWORD", "r");
        let plan = Running::start_command(command, folder, None).end().await.expect_code(0);
        assert_documented(&plan);
        assert_eq!(plan.json()["totals"]["applied"], 3);
        let warnings = plan.json()["warnings"].to_string();
        assert!(
            warnings.contains("lacks write privileges on") && warnings.contains("GRANT"),
            "what migrate needs is said: {warnings}"
        );
        assert_eq!(Contents::read(&green).await, before);
    }
    // The superuser of the secured server goes all the way, over TLS and with passwords.
    let (mut command, folder) = program();
    let green_url = format!("{}?sslmode=require", green.url());
    command.args(["migrate", "--blue", &blue_url, "--green", &green_url, "--yes", "--format", "json"]);
    command.env("KONGFERRY_BLUE_PASSWORD", "r").env("KONGFERRY_GREEN_PASSWORD", PASSWORD);
    Running::start_command(command, folder, None).end().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_exits_with_the_code_that_migrate_would_return() {
    let (blue, green) = (small_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let plan = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(0);
    assert_documented(&plan);
    assert_eq!(plan.json()["next"], json!(["Run migrate with the same addresses."]));

    let dangling = json!({
        "id": "00000000-0000-4000-8000-0000000004ff", "ws_id": WORKSPACE, "key": format!("{WORKSPACE}:k"),
        "consumer_id": "00000000-0000-4000-8000-0000000000ff",
    });
    blue.write_row("keyauth_credentials", &dangling).await.expect("a row");
    let plan = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(3);
    assert_eq!(plan.json()["rejects"][0]["reason"], "dangling_reference");

    let by_hand = "00000000-0000-4000-8000-00000000bad1";
    green.insert("consumers", &json!({ "id": by_hand, "username": "local" })).await.expect("a consumer");
    let plan = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(4);
    assert_documented(&plan);
    assert!(plan.json()["refusal"].to_string().contains(by_hand), "{plan:#?}");
    let migration = kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(4);
    assert_same(&plan, &migration, &["refusal"]);
    green.execute("delete from consumers").await.expect("deleted");

    let options = green.options().clone().application_name("another-kong");
    let session = sqlx::PgConnection::connect_with(&options).await.expect("a session");
    let plan = kongferry(&plan_arguments(&blue, Some(&green), &[])).await.expect_code(4);
    assert_documented(&plan);
    assert!(plan.json()["refusal"].to_string().contains("green is in use"), "{plan:#?}");
    assert_eq!(plan.json()["totals"]["applied"], 3, "it reports what would be applied");
    let plan = kongferry(&plan_arguments(&blue, Some(&green), &["--green-online"])).await.expect_code(3);
    assert!(plan.json()["warnings"].to_string().contains("another-kong"), "{plan:#?}");
    session.close().await.expect("closed");

    let other = lab().fresh_green("3.2").await.expect("green");
    let before = Contents::read(&other).await;
    for more in [&[] as &[&str], &["--quick"]] {
        let plan = kongferry(&plan_arguments(&blue, Some(&other), more)).await.expect_code(4);
        assert!(plan.stdout.contains("the versions of Kong differ"), "{plan:#?}");
        assert_documented(&plan);
    }
    assert_eq!(Contents::read(&other).await, before);
    let elsewhere = kongferry(&["plan", "--blue", "cassandra://127.0.0.1:1/kong", "--format", "json"])
        .await
        .expect_code(1);
    assert_documented(&elsewhere);
}

/// The scratch server of a running plan: the process of the postmaster, and the directory of its data.
fn scratch_server(plan: i32) -> (PathBuf, PathBuf) {
    let threads = fs::read_dir(format!("/proc/{plan}/task")).expect("its threads").flatten();
    let children: Vec<String> = threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let find = |child: &String| {
        let process = PathBuf::from(format!("/proc/{child}"));
        let command = fs::read(process.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).into_owned();
        let data = command.split('\0').skip_while(|word| *word != "-D").nth(1)?;
        let directory = Path::new(data).parent()?.to_owned();
        command.contains("postgres").then_some((process, directory))
    };
    children.iter().find_map(find).unwrap_or_else(|| panic!("no postmaster among {children:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scratch_server_is_removed_however_the_plan_ends() {
    let (blue, green) = (small_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let before = Contents::read(&green).await;
    let arguments = plan_arguments(&blue, Some(&green), &[]);
    for signal in [None, Some(Signal::SIGINT), Some(Signal::SIGTERM), Some(Signal::SIGKILL)] {
        let plan = Running::start(&arguments, Some("staged")).held().await;
        let (process, directory) = scratch_server(plan.id());
        assert!(process.exists() && directory.join("data/PG_VERSION").exists(), "{}", directory.display());
        let ran = match signal {
            None => plan.release().end().await.expect_code(0),
            Some(signal) => plan.signal(signal).end().await,
        };
        if matches!(signal, Some(Signal::SIGINT | Signal::SIGTERM)) {
            assert_eq!(ran.code, 130, "{ran:#?}");
            assert!(ran.stderr.contains("green is unchanged"), "{ran:#?}");
            assert_documented(&ran);
        }
        let deleted =
            format!("{} and {} are deleted after {signal:?}", process.display(), directory.display());
        until(&deleted, async || !process.exists() && !directory.exists()).await;
        assert_eq!(Contents::read(&green).await, before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plan_runs_as_an_ordinary_user() {
    let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("the user nobody");
    if !nix::unistd::geteuid().is_root() {
        // Then every other test was run by an ordinary user.
        return;
    }
    let (blue, green) = (small_blue("3.3").await, lab().fresh_green("3.3").await.expect("green"));
    let (prepared, _) = program();
    // Where he can read it, and with a home of his own.
    let home = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in("/tmp")
        .expect("a home");
    let his = home.path().join("kongferry");
    fs::copy(prepared.get_program(), &his).expect("a copy");
    std::os::unix::fs::chown(home.path(), Some(nobody.uid.as_raw()), Some(nobody.gid.as_raw())).expect("his");
    let mut command = std::process::Command::new(&his);
    command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin").current_dir(home.path());
    command.uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    let rejects = home.path().join("mine.jsonl");
    command.args(plan_arguments(&blue, Some(&green), &["--rejects-file", &rejects.display().to_string()]));
    let plan = Running::start_command(command, tempfile::tempdir().expect("a folder"), None)
        .end()
        .await
        .expect_code(0);
    assert_eq!(plan.json()["totals"]["applied"], 3);
    assert_eq!(green.rows("consumers").await.expect("rows").len(), 0, "{CONSUMER} was not written");
}
