//! Incremental runs that are killed, servers that go away under them, and green in use: what is left is untouched or
//! complete, and the next run goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use kongferry::green::local::LocalPostgres;
use kongferry_harness::cassandra::{Cassandra, Options};
use kongferry_harness::postgres::{Database, PgServer};
use kongferry_harness::{fill, green as bootstrap, lab, postgres};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use super::databases::{Contents, WORKSPACE, filled_blue, filled_blue_on, small_blue};
use super::row_builder::{KongKeyspace, id};
use super::running::{Running, until};
use super::support::{kongferry, migrate_arguments};

/// One row more, one otherwise and one less on blue, each with what hangs on it.
async fn change(blue: &KongKeyspace) {
    blue.put("consumers", "new", json!({})).await;
    blue.put("keyauth_credentials", "of new", json!({ "consumer_id": id("new") })).await;
    blue.put("services", "services", json!({ "host": "elsewhere.example.com" })).await;
    for (table, name) in [("keyauth_credentials", "of old"), ("consumers", "old")] {
        blue.execute(&format!("DELETE FROM {table} WHERE id = {}", id(name))).await.expect("deleted");
    }
}

async fn migrated_blue(green: &Database) -> KongKeyspace {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    blue.put("consumers", "old", json!({})).await;
    blue.put("keyauth_credentials", "of old", json!({ "consumer_id": id("old") })).await;
    kongferry(&migrate_arguments(&blue, green, &[])).await.expect_code(0);
    blue
}

async fn proven(blue: &KongKeyspace, green: &Database) {
    let ran = kongferry(&["verify", "--blue", &blue.url(), "--green", green.url(), "--format", "json"]).await;
    assert_eq!(ran.code, 0, "{ran:#?}");
}

async fn one(green: &Database, sql: &str) -> Value {
    green.json(sql).await.expect("a value").remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_killed_at_any_failpoint_leaves_green_unchanged_or_complete() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let blue = migrated_blue(&green).await;
    change(&blue).await;
    let before = Contents::read(&green).await.without_journal();
    let arguments = migrate_arguments(&blue, &green, &[]);
    for place in ["marking", "loading", "staged", "checked", "writing", "applying"] {
        Running::start(&arguments, Some(place)).held().await.signal(Signal::SIGKILL).end().await;
        assert_eq!(Contents::read(&green).await.without_ours(), before, "{place}");
    }
    Running::start(&arguments, Some("applied")).held().await.signal(Signal::SIGKILL).end().await;
    let complete = Contents::read(&green).await.without_ours();
    assert_ne!(complete, before);
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(ran.json()["changes"]["inserted"], 0, "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), complete);
    proven(&blue, &green).await;
}

/// At moments that no place of ours chose, spread over a whole run.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_run_killed_at_any_moment_leaves_green_unchanged_or_complete() {
    let blue = filled_blue(3_000).await;
    let whole = json!(3_000 * 4 + 1);
    let first = lab().fresh_green("3.3").await.expect("green");
    let began = std::time::Instant::now();
    kongferry(&migrate_arguments(&blue, &first, &[])).await.expect_code(0);
    let took = began.elapsed();
    for moment in 1..=6 {
        let green = lab().fresh_green("3.3").await.expect("green");
        let before = Contents::read(&green).await;
        let arguments = migrate_arguments(&blue, &green, &[]);
        let running = Running::start(&arguments, None);
        tokio::time::sleep(took * moment / 7).await;
        running.kill().await;
        let ours = "select to_jsonb(count(*)) from pg_stat_activity where datname = current_database()
                    and application_name like 'kongferry%'";
        until("the server has ended what it was told last", async || one(&green, ours).await == json!(0))
            .await;
        let untouched = Contents::read(&green).await.without_ours() == before;
        let ran = kongferry(&arguments).await.expect_code(0);
        let report = ran.json();
        let written = if untouched { &report["totals"]["applied"] } else { &report["changes"]["unchanged"] };
        assert_eq!(*written, whole, "killed at {moment} of 7: {ran:#?}");
        let ran =
            kongferry(&["verify", "--blue", &blue.url(), "--green", green.url(), "--format", "json"]).await;
        assert_eq!(ran.code, 0, "{ran:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_crash_during_an_incremental_run_is_detected() {
    let mut server: LocalPostgres = postgres::start().await.expect("a PostgreSQL");
    let green = bootstrap::fresh_green(&PgServer::from(&server), "kong", "3.3").await.expect("green");
    let blue = migrated_blue(&green).await;
    change(&blue).await;
    let before = Contents::read(&green).await.without_journal();
    let arguments = migrate_arguments(&blue, &green, &[]);
    // Before the checks they are empty, and after them what leaves green would be forgotten: neither is applied.
    for place in ["staged", "checked"] {
        let running = Running::start(&arguments, Some(place)).held().await;
        server.crash_and_restart().await.expect("restarted");
        let ran = running.release().end().await;
        assert!(ran.code == 4 || ran.code == 1, "{place}: {ran:#?}");
        assert_eq!(Contents::read(&green).await.without_ours(), before, "{place}");
    }
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(ran.json()["changes"]["deleted"], 2, "{ran:#?}");
    proven(&blue, &green).await;
    server.stop().await.expect("stopped");
}

/// Kong on green reads throughout; it must not even have to wait for a lock.
#[tokio::test(flavor = "multi_thread")]
async fn green_online_never_blocks_readers() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let blue = migrated_blue(&green).await;
    let (over, reads, errors) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..3)
        .map(|_| {
            let (green, over, reads, errors) = (green.clone(), over.clone(), reads.clone(), errors.clone());
            tokio::spawn(async move {
                let mut kong = green.connect().await.expect("a session");
                kong.execute("set lock_timeout = '50ms'").await.expect("set");
                let all =
                    "select count(*) from consumers, services; select count(*) from keyauth_credentials k
                           join consumers c on c.id = k.consumer_id; select count(*) from tags";
                while !over.load(Ordering::Relaxed) {
                    let read = kong.execute(all).await;
                    if read.is_ok() {
                        reads.fetch_add(1, Ordering::Relaxed)
                    } else {
                        errors.fetch_add(1, Ordering::Relaxed)
                    };
                }
            })
        })
        .collect();
    let online = ["--green-online"];
    for round in 0..3 {
        change(&blue).await;
        let extra = format!("round {round}");
        blue.put("consumers", &extra, json!({ "tags": [extra] })).await;
        kongferry(&migrate_arguments(&blue, &green, &online)).await.expect_code(0);
    }
    // One session locks a row that the run does not need, another one a row that it waits for.
    let mut idle = green.connect().await.expect("a session");
    idle.execute("begin; update upstreams set slots = slots").await.expect("a lock");
    let mut busy = green.connect().await.expect("a session");
    let lock = format!("begin; select from services where id = '{}' for update", id("services"));
    sqlx::raw_sql(sqlx::AssertSqlSafe(lock)).execute(&mut busy).await.expect("a lock");
    blue.put("services", "services", json!({ "host": "third.example.com" })).await;
    let running = Running::start(&migrate_arguments(&blue, &green, &online), None);
    let waits = "select to_jsonb(count(*)) from pg_stat_activity where datname = current_database()
                 and application_name like 'kongferry%' and wait_event_type = 'Lock'";
    until("the run waits for the row", async || one(&green, waits).await != json!(0)).await;
    // Long enough for it to give up once and to come again.
    until("it has let go once", async || one(&green, waits).await == json!(0)).await;
    busy.execute("rollback").await.expect("let go");
    let ran = running.end().await.expect_code(0);
    assert_eq!(ran.json()["changes"]["updated"], 1, "{ran:#?}");
    idle.execute("rollback").await.expect("let go");
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    idle.close().await.expect("closed");
    busy.close().await.expect("closed");
    assert!(reads.load(Ordering::Relaxed) > 0);
    assert_eq!(errors.load(Ordering::Relaxed), 0, "of {} reads", reads.load(Ordering::Relaxed));
    proven(&blue, &green).await;
}

/// During the run another session edits a row that the run is about to write.
#[tokio::test(flavor = "multi_thread")]
async fn a_local_change_between_check_and_lock_is_not_overwritten() {
    for more in [&[][..], &["--green-online"]] {
        let green = lab().fresh_green("3.3").await.expect("green");
        let blue = migrated_blue(&green).await;
        change(&blue).await;
        let running = Running::start(&migrate_arguments(&blue, &green, more), Some("checked")).held().await;
        let edit = format!("update services set host = 'local.example.com' where id = '{}'", id("services"));
        green.execute(&edit).await.expect("edited");
        let ran = running.release().end().await.expect_code(4);
        assert!(ran.stderr.contains("during the run; nothing was applied"), "{ran:#?}");
        let host = one(&green, "select to_jsonb(host) from services").await;
        assert_eq!(host, "local.example.com");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scan_retries_when_cassandra_restarts() {
    let mut server =
        Cassandra::start(Options { survives_kill: true, ..Options::default() }).await.expect("a Cassandra");
    let blue = filled_blue_on(&server.endpoint(), 1_500).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let arguments = migrate_arguments(&blue, &green, &[]);
    let running = Running::start(&arguments, Some("loading")).held().await;
    server.restart().await.expect("restarted");
    let ran = running.release().end().await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], 1_500 * 4 + 1);
    // One that is paused for longer than a request may take: nothing is lost, and nothing counted twice.
    let impatient = format!("{}?request_timeout=1s", blue.url());
    let arguments: Vec<String> =
        arguments.into_iter().map(|one| if one == blue.url() { impatient.clone() } else { one }).collect();
    let running = Running::start(&arguments, Some("marking")).held().await;
    server.pause().expect("paused");
    let running = running.release();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    server.resume().expect("resumed");
    let ran = running.end().await.expect_code(0);
    assert!(ran.stderr.contains("retrying"), "{ran:#?}");
    let unchanged = json!({ "unchanged": 1_500 * 4 + 1, "inserted": 0, "updated": 0, "deleted": 0 });
    assert_eq!(ran.json()["changes"], unchanged, "{ran:#?}");
    // And one that does not come back: a clear error, and green as it was.
    let before = Contents::read(&green).await.without_journal();
    let running = Running::start(&arguments, Some("marking")).held().await;
    server.kill().await.expect("killed");
    let ran = running.release().end().await.expect_code(1);
    assert_eq!(ran.json()["kind"], "connection", "{ran:#?}");
    assert!(ran.stderr.contains("to do:"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_added_on_blue_during_the_scan_stops_the_run() {
    let blue = small_blue("3.3").await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let before = Contents::read(&green).await;
    let running = Running::start(&migrate_arguments(&blue, &green, &[]), Some("loading")).held().await;
    blue.execute("ALTER TABLE consumers ADD secret_of_a_plugin text").await.expect("a column");
    let ran = running.release().end().await.expect_code(4);
    assert!(ran.stderr.contains("the definition of blue's tables changed while they were read"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_reports_what_an_incremental_run_would_change_and_writes_nothing() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let arguments =
        ["verify", "--since-run", "--blue", &blue.url(), "--green", green.url(), "--format", "json"];
    let ran = kongferry(&arguments).await.expect_code(4);
    assert!(ran.stderr.contains("no run has been applied"), "{ran:#?}");
    blue.put("consumers", "old", json!({})).await;
    blue.put("keyauth_credentials", "of old", json!({ "consumer_id": id("old") })).await;
    blue.put("acls", "orphan", json!({ "consumer_id": id("missing") })).await;
    blue.put("consumers", "nul", json!({ "custom_id": "\0" })).await;
    kongferry(&migrate_arguments(&blue, &green, &["--accept-rejects"])).await.expect_code(3);
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(
        (&ran.json()["clean"], &ran.json()["admin"]["rejected"]),
        (&json!(true), &json!(1)),
        "{ran:#?}"
    );
    let began = chrono::Utc::now() - chrono::Duration::seconds(2);
    change(&blue).await;
    blue.put("oauth2_tokens", "issued", json!({})).await;
    green
        .execute(&format!("update upstreams set slots = 7 where id = '{}'", id("upstreams")))
        .await
        .expect("edited");
    let before = Contents::read(&green).await;
    let ran = kongferry(&arguments).await.expect_code(3);
    let drift = ran.json();
    let admin =
        json!({ "added": 2, "changed": 1, "deleted": 2, "on_green": 1, "rejected": 1, "unchanged": 8 });
    assert_eq!(drift["admin"], admin, "{ran:#?}");
    assert_eq!(drift["traffic"]["added"], 1);
    // When, where Cassandra can tell: a row that was written, not one that was deleted.
    let when = |table: &str| {
        let tables = drift["tables"].as_array().expect("tables");
        let table = tables.iter().find(|one| one["table"] == table).expect("the table");
        table["newest_write"]
            .as_str()
            .map(|text| text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time"))
    };
    for table in ["consumers", "keyauth_credentials", "services", "oauth2_tokens"] {
        let time = when(table).unwrap_or_else(|| panic!("no time of {table} in {drift:#}"));
        assert!(time > began && time < chrono::Utc::now(), "{table}: {time}");
    }
    assert_eq!(when("upstreams"), None, "it was not written on blue");
    let keys =
        drift["tables"].as_array().expect("tables").iter().find(|one| one["table"] == "keyauth_credentials");
    assert_eq!(keys.expect("a table")["deleted_keys"], json!([id("of old")]));
    assert_eq!(Contents::read(&green).await, before);
    // What traffic writes alone is no drift.
    green
        .execute(&format!("update upstreams set slots = 10000 where id = '{}'", id("upstreams")))
        .await
        .expect("back");
    kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(3);
    blue.put("oauth2_tokens", "another", json!({})).await;
    kongferry(&arguments).await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_lists_the_runs_and_cleanup_removes_the_kongferry_schema() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let fresh = Contents::read(&green).await;
    let status = ["status", "--green", green.url(), "--format", "json"];
    assert_eq!(kongferry(&status).await.expect_code(0).json()["runs"], json!([]));
    let blue = migrated_blue(&green).await;
    green
        .execute("insert into consumers (id, username) values (gen_random_uuid(), 'local')")
        .await
        .expect("made");
    kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    let ran = kongferry(&status).await.expect_code(0).json();
    let states: Vec<&Value> = ran["runs"].as_array().expect("runs").iter().map(|run| &run["state"]).collect();
    assert_eq!(states, [&json!("refused"), &json!("applied")]);
    assert_eq!(ran["applied"], ran["runs"][1]["run"]);
    let text = kongferry(&["status", "--green", green.url()]).await.expect_code(0).stdout;
    assert!(text.contains("Applied last") && text.contains(blue.name()), "{text}");
    // One that is at work, and one that was killed there.
    let state = async || kongferry(&status).await.expect_code(0).json()["runs"][0]["state"].clone();
    let running =
        Running::start(&migrate_arguments(&blue, &green, &["--replace"]), Some("staged")).held().await;
    assert_eq!(state().await, "staged");
    running.signal(Signal::SIGKILL).end().await;
    until("the killed run is seen to be cut off", async || state().await == "cut off").await;
    // The operator created a table in kongferry's schema.
    green.execute("create table kongferry.theirs (n int)").await.expect("a table");
    let cleanup = ["cleanup", "--yes", "--green", green.url(), "--format", "json"];
    let ran = kongferry(&cleanup).await.expect_code(4);
    assert!(ran.stderr.contains("theirs"), "{ran:#?}");
    green.execute("drop table kongferry.theirs").await.expect("dropped");
    kongferry(&cleanup).await.expect_code(0);
    let names = |contents: &Contents| format!("{contents:?}").contains("kongferry");
    assert!(!names(&Contents::read(&green).await) && !names(&fresh));
    kongferry(&cleanup).await.expect_code(0);
}

/// Enough rows for bulk load; `make soak` takes 100,001.
#[tokio::test(flavor = "multi_thread")]
async fn unchanged_rows_are_not_rewritten() {
    let consumers: u64 =
        std::env::var("KONGFERRY_CONSUMERS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_500);
    // Each with three credentials, and the default workspace.
    let rows = consumers * 4 + 1;
    let blue = filled_blue(consumers).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let arguments = migrate_arguments(&blue, &green, &[]);
    kongferry(&arguments).await.expect_code(0);
    let before = Contents::read(&green).await.without_journal();
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(
        ran.json()["changes"],
        json!({ "unchanged": rows, "inserted": 0, "updated": 0, "deleted": 0 })
    );
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    // Three of them change: they are read again alone.
    let consumer = fill::Consumer::number(7).id;
    blue.execute(&format!("UPDATE consumers SET custom_id = '{WORKSPACE}:seven' WHERE id = {consumer}"))
        .await
        .expect("updated");
    blue.execute(&format!("DELETE FROM acls WHERE id = {}", fill::id("acl", 9))).await.expect("deleted");
    let key = json!({ "id": id("new"), "ws_id": WORKSPACE, "consumer_id": consumer.to_string(), "key": format!("{WORKSPACE}:new") });
    blue.write_row("keyauth_credentials", &key).await.expect("a key");
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(
        ran.json()["changes"],
        json!({ "unchanged": rows - 2, "inserted": 1, "updated": 1, "deleted": 1 })
    );
}
