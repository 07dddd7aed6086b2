//! `kongferry-lab up` and what it leaves behind, however it ends.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kongferry_harness::Keyspace;
use kongferry_harness::cassandra::Endpoint;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::postgres::PgServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn up(env_file: &Path, line: &str) -> std::io::Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_kongferry-lab"))
        .args(["up", "--line", line, "--env-file"])
        .arg(env_file)
        .stdout(Stdio::null())
        .process_group(0)
        .spawn()
}

fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The processes that `parent` started.
fn children(parent: u32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap().flatten();
    let listed = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    listed.flat_map(|line| line.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// What was typed to start it.
fn command_of(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default().replace('\0', " ")
}

fn is_gone(pid: i32) -> bool {
    // A process that was not waited for yet is a zombie, which counts as ended.
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test]
async fn lab_up_starts_both_servers_and_killing_it_ends_them() -> Outcome {
    let directory = tempfile::tempdir()?;
    let env_file = directory.path().join("env");
    let mut child = up(&env_file, "2.8")?;
    wait_for("the start", Duration::from_secs(240), || {
        assert_eq!(child.try_wait().unwrap(), None, "it ended early");
        env_file.exists()
    });
    let env = fs::read_to_string(&env_file)?;
    let value = |name: &str| {
        env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned).unwrap()
    };

    let keyspace = Keyspace::open(&Endpoint::open(value("KONGFERRY_LAB_CASSANDRA")), "kong").await?;
    assert_eq!(keyspace.url(), value("KONGFERRY_BLUE"));
    let expected = Fixture::shipped("2.8")?.blue_count("consumers");
    assert_eq!(keyspace.count("consumers").await?, i64::try_from(expected)?);
    let green = PgServer::at(&value("KONGFERRY_LAB_POSTGRES"))?.database("kong");
    assert_eq!(green.url(), value("KONGFERRY_GREEN"));
    assert_eq!(green.count("workspaces").await?, 1);

    let servers = children(child.id());
    let commands: Vec<String> = servers.iter().map(|pid| command_of(*pid)).collect();
    for server in ["postgres", "java"] {
        assert!(commands.iter().any(|command| command.contains(server)), "no {server} in {commands:?}");
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL)?;
    child.wait()?;
    wait_for("the end of the servers", Duration::from_secs(10), || servers.iter().all(|pid| is_gone(*pid)));
    Ok(())
}

#[test]
fn an_invalid_argument_is_reported() -> Outcome {
    for (arguments, message) in [
        (vec!["down"], "the commands are up, look, change and dns"),
        (vec!["look", "env", "consumers", "alice"], "alice is not COLUMN=VALUE"),
        (vec!["change", "env", "many", "1"], "change takes a number, not many"),
        (vec!["up", "--line", "4.0"], "--line is one of"),
        (vec!["up", "--lines", "3.3"], "--lines is not known"),
        (vec!["up", "--fill", "many"], "--fill takes a number"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kongferry-lab")).args(&arguments).output()?;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{arguments:?}");
    }
    Ok(())
}
