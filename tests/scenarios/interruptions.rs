//! Runs that are cut off: green is unchanged or complete, nothing that is left blocks the next run, and the operator is
//! told which of the two it is.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use kongferry::green::local::LocalPostgres;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::postgres::{Database, PgServer};
use kongferry_harness::{green as bootstrap, lab, postgres};
use nix::sys::signal::Signal;
use tokio::sync::OnceCell;

use super::databases::{Contents, filled_blue, small_blue};
use super::running::{Running, until};
use super::support::{kongferry, migrate_arguments, program};

/// Four rows each: enough for many pages, and for bulk load.
const CONSUMERS: u64 = 5_500;

/// A keyspace that these tests share, because writing its rows takes longest.
async fn shared_blue() -> Keyspace {
    static NAME: OnceCell<String> = OnceCell::const_new();
    let endpoint = lab().cassandra().await.expect("a Cassandra");
    let name = NAME
        .get_or_init(|| async {
            let mut blue = filled_blue(CONSUMERS).await;
            blue.keep();
            blue.name().to_owned()
        })
        .await;
    Keyspace::open(endpoint, name).await.expect("a keyspace")
}

async fn fresh_green() -> Database {
    lab().fresh_green("3.3").await.expect("green")
}

async fn is_complete(green: &Database) -> bool {
    let mut complete = true;
    for table in ["consumers", "basicauth_credentials", "keyauth_credentials", "acls"] {
        complete &= green.count(table).await.expect("a count") == CONSUMERS.cast_signed();
    }
    complete
}

/// What the journal says of the last run.
async fn last_state(green: &Database) -> String {
    let sql = "select to_jsonb(state) from kongferry.run order by started_at desc limit 1";
    let states = green.json(sql).await.expect("the journal");
    states[0].as_str().expect("a state").to_owned()
}

/// Ends every session of ours on this database, as an administrator or a broken network would.
async fn cut_connections(green: &Database) {
    let sql = "select to_jsonb(count(pg_terminate_backend(pid))) from pg_stat_activity
               where datname = current_database() and application_name like 'kongferry%'";
    let cut = green.json(sql).await.expect("cut");
    assert!(cut[0].as_u64() > Some(0), "there was no session to end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_interrupted_at_any_failpoint_leaves_green_unchanged() {
    let (blue, green) = (shared_blue().await, fresh_green().await);
    let before = Contents::read(&green).await;
    let arguments = migrate_arguments(&blue, &green, &[]);
    for place in ["inspected", "loading", "staged", "applying"] {
        for (signal, name) in [(Signal::SIGINT, "Ctrl-C"), (Signal::SIGTERM, "SIGTERM")] {
            let ran = Running::start(&arguments, Some(place)).held().await.signal(signal).end().await;
            let ran = ran.expect_code(130);
            let message = format!("interrupted by {name}; green is unchanged");
            assert_eq!(ran.json()["message"], message, "{place}: {ran:#?}");
            assert!(ran.stderr.contains("starts from the beginning"), "{place}: {ran:#?}");
            assert_eq!(Contents::read(&green).await.without_journal(), before, "{place} {name}");
            if place != "inspected" {
                assert_eq!(last_state(&green).await, "failed", "{place} {name}");
            }
        }
        Running::start(&arguments, Some(place)).held().await.signal(Signal::SIGKILL).end().await;
        assert_eq!(Contents::read(&green).await.without_ours(), before, "{place} SIGKILL");
    }
    let ran = kongferry(&arguments).await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], CONSUMERS * 4 + 1);
    assert!(is_complete(&green).await);
    let _ = Contents::read(&green).await.without_journal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_interrupted_after_its_commit_reports_green_as_complete() {
    let blue = small_blue("3.3").await;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL] {
        let green = fresh_green().await;
        let arguments = migrate_arguments(&blue, &green, &[]);
        let ran = Running::start(&arguments, Some("applied")).held().await.signal(signal).end().await;
        if signal != Signal::SIGKILL {
            let ran = ran.expect_code(130);
            let message = ran.json()["message"].to_string();
            assert!(message.contains("all rows are applied, and green is complete"), "{ran:#?}");
            let _ = Contents::read(&green).await.without_journal();
        }
        assert_eq!(last_state(&green).await, "applied");
        assert_eq!(green.count("consumers").await.expect("a count"), 1);
        kongferry(&arguments).await.expect_code(0);
        let _ = Contents::read(&green).await.without_journal();
    }
}

/// Several runs may share a process id: in containers they all do. What an earlier one did must not be taken for ours.
#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_with_the_same_process_id_is_not_mistaken_for_this_one() {
    let (blue, green) = (small_blue("3.3").await, fresh_green().await);
    let arguments = migrate_arguments(&blue, &green, &[]);
    kongferry(&arguments).await.expect_code(0);
    let running = Running::start(&arguments, Some("inspected")).held().await;
    let same = format!("update kongferry.run set process_id = {}", running.id());
    green.execute(&same).await.expect("the same id");
    let ran = running.signal(Signal::SIGINT).end().await.expect_code(130);
    assert!(ran.json()["message"].to_string().contains("green is unchanged"), "{ran:#?}");
    assert_eq!(last_state(&green).await, "applied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_crash_between_stage_and_apply_is_detected() {
    let mut server: LocalPostgres = postgres::start().await.expect("a PostgreSQL");
    let blue = small_blue("3.3").await;
    let green = bootstrap::fresh_green(&PgServer::from(&server), "kong", "3.3").await.expect("green");
    let before = Contents::read(&green).await;
    let arguments = migrate_arguments(&blue, &green, &[]);
    let running = Running::start(&arguments, Some("staged")).held().await;
    server.crash_and_restart().await.expect("restarted");
    let ran = running.release().end().await.expect_code(4);
    assert!(ran.stderr.contains("the staging tables are not those that this run filled"), "{ran:#?}");
    assert!(ran.stderr.contains("was restarted after a crash"), "{ran:#?}");
    assert_eq!(Contents::read(&green).await.without_journal(), before);
    kongferry(&arguments).await.expect_code(0);
    assert_eq!(green.count("consumers").await.expect("a count"), 1);
    server.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_ends_the_run_and_leaves_green_unchanged() {
    let (blue, green) = (shared_blue().await, fresh_green().await);
    let before = Contents::read(&green).await;
    let arguments = migrate_arguments(&blue, &green, &[]);
    for place in ["loading", "staged", "applying"] {
        let running = Running::start(&arguments, Some(place)).held().await;
        cut_connections(&green).await;
        let ran = running.release().end().await.expect_code(1);
        assert_eq!(ran.json()["kind"], "connection", "{place}: {ran:#?}");
        assert!(ran.stderr.contains("to do:"), "{place}: {ran:#?}");
        assert_eq!(Contents::read(&green).await.without_ours(), before, "{place}");
    }
    kongferry(&arguments).await.expect_code(0);
    assert!(is_complete(&green).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_commit_reports_green_as_complete() {
    let (blue, green) = (small_blue("3.3").await, fresh_green().await);
    let arguments = migrate_arguments(&blue, &green, &[]);
    let running = Running::start(&arguments, Some("applied")).held().await;
    cut_connections(&green).await;
    let ran = running.release().end().await.expect_code(0);
    assert_eq!(ran.json()["outcome"], "applied");
    assert_eq!(green.count("consumers").await.expect("a count"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_kongferry_process_is_refused_and_told_who_runs_the_first() {
    let (blue, green) = (small_blue("3.3").await, fresh_green().await);
    let arguments = migrate_arguments(&blue, &green, &[]);
    // The second one has read both sides already when the first one begins.
    let third = Running::start(&arguments, Some("inspected")).held().await;
    let first = Running::start(&arguments, Some("staged")).held().await;
    let second = kongferry(&arguments).await.expect_code(4);
    let process = format!("as process {} since", first.id());
    assert!(second.stderr.contains("another kongferry process uses this database"), "{second:#?}");
    assert!(second.stderr.contains(&process), "{second:#?}");
    let ran = third.signal(Signal::SIGINT).end().await.expect_code(130);
    assert!(ran.stderr.contains("green is unchanged"), "{ran:#?}");
    let ran = first.release().end().await.expect_code(0);
    assert_eq!(ran.json()["totals"]["applied"], 3);
}

/// The program on a terminal of its own, which `script` makes.
struct Terminal {
    script: std::process::Child,
    folder: tempfile::TempDir,
}

impl Terminal {
    fn start(arguments: &[String]) -> Terminal {
        let (program, folder) = program();
        let quoted = |text: &str| format!("'{text}'");
        let line: Vec<String> = std::iter::once(program.get_program().to_str().expect("a path"))
            .chain(arguments.iter().map(String::as_str))
            .map(quoted)
            .collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line.join(" "), "/dev/null"]);
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let said = File::create(folder.path().join("said")).expect("a file");
        script.current_dir(folder.path()).stdin(Stdio::piped()).stdout(said).stderr(Stdio::null());
        Terminal { script: script.spawn().expect("script, of util-linux"), folder }
    }

    fn said(&self) -> String {
        let mut text = Vec::new();
        let file =
            File::open(self.folder.path().join("said")).and_then(|mut file| file.read_to_end(&mut text));
        file.expect("what was said");
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn asked(&self) {
        until("the question is asked", async || self.said().contains("[y/N]")).await;
    }

    fn types(&mut self, keys: &[u8]) {
        let keyboard = self.script.stdin.as_mut().expect("a keyboard");
        keyboard.write_all(keys).and_then(|()| keyboard.flush()).expect("typed");
    }

    async fn end(&mut self) -> i32 {
        let mut code = None;
        until("it ends", async || {
            code = self.script.try_wait().expect("its state");
            code.is_some()
        })
        .await;
        code.and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_confirmation_prompt_obeys_yes_no_and_ctrl_c() {
    let (blue, green) = (small_blue("3.3").await, fresh_green().await);
    let arguments = ["migrate", "--blue", &blue.url(), "--green", green.url()].map(str::to_owned);
    let before = Contents::read(&green).await;
    for (keys, wanted) in [(b"n\n".as_slice(), "did not answer yes"), (b"\x03", "interrupted by Ctrl-C")] {
        let mut terminal = Terminal::start(&arguments);
        terminal.asked().await;
        terminal.types(keys);
        assert_eq!(terminal.end().await, 130, "{}", terminal.said());
        let said = terminal.said();
        assert!(said.contains(wanted) && said.contains("green is unchanged"), "{said}");
        assert_eq!(Contents::read(&green).await.without_journal(), before);
    }
    let mut terminal = Terminal::start(&arguments);
    terminal.asked().await;
    assert!(terminal.said().contains("consumers"), "the counts are shown: {}", terminal.said());
    terminal.types(b"y\n");
    assert_eq!(terminal.end().await, 0, "{}", terminal.said());
    assert_eq!(green.count("consumers").await.expect("a count"), 1);
}
