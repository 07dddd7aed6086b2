//! What goes wrong with the servers while a run is at work, kind by kind as the table in docs/incremental.md has them:
//! tried again where that is safe, otherwise one clear error with what to do; green is unchanged, and the next run goes
//! through.

use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::PathBuf;

use kongferry::green::local::LocalPostgres;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::postgres::{Database, PgServer};
use kongferry_harness::{green as bootstrap, lab, postgres};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use super::cql_proxy;
use super::databases::{Contents, WORKSPACE, filled_blue, small_blue};
use super::row_builder::{KongKeyspace, id};
use super::running::{Running, until};
use super::support::{Ran, kongferry, migrate_arguments};

const CONSUMERS: u64 = 1_500;

async fn fresh_green() -> Database {
    lab().fresh_green("3.3").await.expect("green")
}

/// A PostgreSQL of the test's own, with a bootstrapped database.
async fn own_green() -> (LocalPostgres, Database) {
    let server = postgres::start().await.expect("a PostgreSQL");
    let green = bootstrap::fresh_green(&PgServer::from(&server), "kong", "3.3").await.expect("green");
    (server, green)
}

#[track_caller]
fn stopped(ran: Ran, code: i32, remedy: &str) -> Ran {
    let ran = ran.expect_code(code);
    assert!(ran.stderr.contains(&format!("to do: {remedy}")), "{ran:#?}");
    ran
}

async fn value(green: &Database, sql: &str) -> Value {
    green.json(&format!("select to_jsonb(({sql}))")).await.expect("a value").remove(0)
}

async fn complete(blue: &Keyspace, green: &Database) {
    let ran = kongferry(&migrate_arguments(blue, green, &[])).await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], CONSUMERS * 4 + 1, "{ran:#?}");
}

/// Overloaded, bootstrapping, a server error, a read time-out: each of them is waited out.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_blue_fails_temporarily_are_retried() {
    let (blue, green) = (filled_blue(CONSUMERS).await, fresh_green().await);
    let (endpoint, faults) = cql_proxy::before(blue.endpoint()).await;
    let through = Keyspace::open(&endpoint, blue.name()).await.expect("a keyspace");
    for place in ["loading", "marking"] {
        let arguments = migrate_arguments(&through, &green, &[]);
        let running = Running::start(&arguments, Some(place)).held().await;
        let before = faults.failed();
        faults.next(2 * cql_proxy::TROUBLE.len() as u32);
        let ran = running.release().end().await.expect_code(0);
        assert!(
            faults.failed() - before >= cql_proxy::TROUBLE.len() as u32,
            "{place}: too few requests failed"
        );
        assert_eq!(ran.json()["totals"]["applied"], CONSUMERS * 4 + 1, "{place}: {ran:#?}");
        assert!(ran.stderr.contains("retrying"), "{place}: {ran:#?}");
    }
}

/// The operator decides what to do about a missing replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_goes_down_stops_the_run_with_the_choices() {
    let (blue, green) = (filled_blue(CONSUMERS).await, fresh_green().await);
    let arguments = migrate_arguments(&blue, &green, &[]);
    let running = Running::start(&arguments, Some("inspected")).held().await;
    let before = Contents::read(&green).await.without_ours();
    let second = format!(
        "ALTER KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 2}}",
        blue.name()
    );
    blue.execute(&second).await.expect("a second replica, which is not there");
    let ran = stopped(running.release().end().await, 1, "Restart the node");
    assert!(ran.stderr.contains("1 of 2 replicas are up, consistency ALL needs 2"), "{ran:#?}");
    assert!(ran.stderr.contains("consistency=one"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    let url = format!("{}?consistency=one", blue.url());
    let mut arguments = arguments;
    *arguments.iter_mut().find(|one| **one == blue.url()).expect("blue's address") = url;
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], CONSUMERS * 4 + 1, "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_dropped_on_blue_during_a_run_stops_it() {
    let blue = filled_blue(CONSUMERS).await;
    for place in ["loading", "inspected"] {
        let green = fresh_green().await;
        let before = Contents::read(&green).await.without_ours();
        let running = Running::start(&migrate_arguments(&blue, &green, &[]), Some(place)).held().await;
        let table = if place == "loading" { "acls" } else { "basicauth_credentials" };
        blue.execute(&format!("DROP TABLE {table}")).await.expect("dropped");
        stopped(running.release().end().await, 4, "Do not run Kong's migrations");
        assert_eq!(Contents::read(&green).await.without_journal(), before, "{place}");
    }
}

/// The role's and the database's own limits would end a run at its first long statement.
#[tokio::test(flavor = "multi_thread")]
async fn timeouts_set_on_the_role_or_the_database_do_not_end_a_run() {
    let (_server, green) = own_green().await;
    let blue = filled_blue(CONSUMERS).await;
    green
        .execute(
            "alter database kong set statement_timeout = '150ms';
             alter role postgres set statement_timeout = '150ms';
             alter database kong set idle_in_transaction_session_timeout = '150ms';
             alter database kong set lock_timeout = '50ms'",
        )
        .await
        .expect("limits");
    // A lock that is held for longer than all of them, where the run waits for it.
    let running =
        Running::start(&migrate_arguments(&blue, &green, &["--green-online"]), Some("checked")).held().await;
    let mut busy = green.connect().await.expect("a session");
    busy.execute("set statement_timeout = 0; set idle_in_transaction_session_timeout = 0")
        .await
        .expect("no limits");
    busy.execute("begin; lock table consumers in share row exclusive mode").await.expect("a lock");
    let running = running.release();
    waits(&green).await;
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    busy.execute("rollback").await.expect("let go");
    let ran = running.end().await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], CONSUMERS * 4 + 1, "{ran:#?}");
    busy.close().await.expect("closed");
}

const WAITING: &str = "select count(*) from pg_stat_activity where datname = current_database()
    and application_name like 'kongferry%' and wait_event_type = 'Lock'";

async fn waits(green: &Database) {
    until("the run waits for a lock", async || value(green, WAITING).await != json!(0)).await;
}

/// Holds a lock on consumers in a session of its own.
async fn held_by_somebody(green: &Database) -> PgConnection {
    let mut busy = green.connect().await.expect("a session");
    busy.execute("begin; lock table consumers in share row exclusive mode").await.expect("a lock");
    busy
}

/// An administrator cancels what the run is waiting for; and one who never lets go is told of.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_statement_or_a_held_lock_stops_the_run() {
    let (blue, green) = (small_blue("3.3").await, fresh_green().await);
    let before = Contents::read(&green).await.without_ours();
    let arguments = migrate_arguments(&blue, &green, &["--green-online"]);
    let running = Running::start(&arguments, Some("checked")).held().await;
    let busy = held_by_somebody(&green).await;
    let running = running.release();
    waits(&green).await;
    let cancel =
        "select count(pg_cancel_backend(pid)) from pg_stat_activity where datname = current_database()
        and application_name like 'kongferry%' and wait_event_type = 'Lock'";
    assert_eq!(value(&green, cancel).await, json!(1));
    let ran = stopped(
        running.end().await,
        1,
        "Run the command again. kongferry disables statement_timeout for its sessions",
    );
    assert!(ran.stderr.contains("57014"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    busy.close().await.expect("let go");
    kongferry(&arguments).await.expect_code(0);
    // The incremental run waits two seconds at a time.
    blue.execute(&format!(
        "UPDATE consumers SET custom_id = '{WORKSPACE}:c' WHERE id = {}",
        super::databases::CONSUMER
    ))
    .await
    .expect("updated");
    let before = Contents::read(&green).await.without_journal();
    let busy = held_by_somebody(&green).await;
    let ran = kongferry(&arguments).await;
    let ran = stopped(ran, 1, "Wait: kongferry tries up to eight times");
    assert!(ran.stderr.contains("trying again (7 of 8)") && ran.stderr.contains("55P03"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    busy.close().await.expect("let go");
    kongferry(&arguments).await.expect_code(0);
}

/// Restarted by an administrator, and after a crash, while rows are copied.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_restart_while_rows_are_copied_ends_the_run() {
    let (mut server, green) = own_green().await;
    let blue = filled_blue(CONSUMERS).await;
    let before = Contents::read(&green).await;
    let arguments = migrate_arguments(&blue, &green, &[]);
    for how in ["restart", "crash"] {
        for place in ["loading", "applying"] {
            let running = Running::start(&arguments, Some(place)).held().await;
            let done =
                if how == "restart" { server.restart().await } else { server.crash_and_restart().await };
            done.expect("restarted");
            let ran = running.release().end().await;
            assert!(
                [1, 4].contains(&ran.code) && ran.stderr.contains("to do: "),
                "{how} at {place}: {ran:#?}"
            );
            assert_eq!(Contents::read(&green).await.without_ours(), before, "{how} at {place}");
        }
    }
    complete(&blue, &green).await;
}

/// A file of the server's in the place of which stands one that is always full: PostgreSQL gets ENOSPC from the kernel.
struct Full {
    file: PathBuf,
    kept: PathBuf,
}

impl Full {
    async fn make(green: &Database, table: &str) -> Full {
        let sql =
            format!("select current_setting('data_directory') || '/' || pg_relation_filepath('{table}')");
        let file = PathBuf::from(value(green, &sql).await.as_str().expect("a path"));
        let kept = file.with_extension("kept");
        std::fs::rename(&file, &kept).expect("moved aside");
        symlink("/dev/full", &file).expect("a full one");
        Full { file, kept }
    }

    fn make_room(self) {
        std::fs::remove_file(&self.file).expect("removed");
        let owner = std::fs::metadata(&self.kept).expect("its owner");
        std::fs::rename(&self.kept, &self.file).expect("restored");
        chown(&self.file, Some(owner.uid()), Some(owner.gid())).expect("handed over");
    }
}

/// Sessions that have the file open already would go on writing to it.
async fn forget_open_files(green: &Database) {
    let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
               where datname = current_database() and application_name like 'kongferry%' and state = 'idle'";
    value(green, sql).await;
}

const ROOM: &str = "Free disk space (inspect prints how much is needed) and run the command again";

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_the_run_and_the_next_one_succeeds_with_free_space() {
    let (_server, green) = own_green().await;
    let blue = filled_blue(CONSUMERS).await;
    let arguments = migrate_arguments(&blue, &green, &[]);
    let before = Contents::read(&green).await;
    // While Kong's tables are filled.
    let full = Full::make(&green, "public.consumers").await;
    let ran = stopped(kongferry(&arguments).await, 1, ROOM);
    assert!(ran.stderr.contains("No space left on device") && ran.stderr.contains("53100"), "{ran:#?}");
    full.make_room();
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    // While the stage is filled. The run is held up between making it and filling it, where it asks what earlier runs wrote.
    let mut busy = green.connect().await.expect("a session");
    busy.execute("begin; lock table kongferry.writer").await.expect("a lock");
    let running = Running::start(&migrate_arguments(&blue, &green, &["--green-online"]), None);
    waits(&green).await;
    let full = Full::make(&green, "kongferry.stage_of_acls").await;
    forget_open_files(&green).await;
    busy.close().await.expect("let go");
    let ran = stopped(running.end().await, 1, ROOM);
    assert!(ran.stderr.contains("cannot fill the stage of \"acls\""), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    std::fs::remove_file(&full.kept).expect("the file of the dropped stage");
    complete(&blue, &green).await;
}

/// Kong's migrations run on green during the run.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_dropped_or_added_on_green_during_a_run_stops_it() {
    for (place, change) in [
        ("staged", "alter table consumers drop column custom_id cascade"),
        ("checked", "alter table consumers drop column custom_id cascade"),
        ("checked", "drop table acls"),
        ("checked", "alter table consumers add column new_in_3_4 text not null default 'x'"),
    ] {
        let blue = KongKeyspace::new("3.3").await;
        blue.parents().await;
        blue.put("acls", "one", json!({ "consumer_id": id("consumers") })).await;
        let green = fresh_green().await;
        let running = Running::start(&migrate_arguments(&blue, &green, &[]), Some(place)).held().await;
        green.execute(change).await.expect(change);
        let before = Contents::read(&green).await.without_ours();
        let ran = running.release().end().await;
        assert!([1, 4].contains(&ran.code), "{change} at {place}: {ran:#?}");
        assert!(ran.stderr.contains("to do: "), "{change} at {place}: {ran:#?}");
        assert_eq!(Contents::read(&green).await.without_journal(), before, "{change} at {place}");
    }
}
