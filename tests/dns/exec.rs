//! The user's own program, here one in Python whose zone is a JSON file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kongferry::dns::exec::{Exec as Provider, ExecConfig};
use kongferry::dns::{
    DnsErrorKind, DnsProvider, Exclusion, Propagation, ProviderConfig, RecordState, Share, Side, Weights,
    WriteOutcome,
};
use serde_json::json;

use crate::support::{carry_out, in_bash, percent, plain, plan, rollback, split, target};

const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/stub.py");

fn zone() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let record =
        json!({ "name": "api.example.test", "type": "A", "state": "plain", "side": "blue", "ttl": 300 });
    let state = json!({ "version": 1, "records": [record], "marker": null, "asked": 0 });
    fs::write(directory.path().join("state.json"), state.to_string()).unwrap();
    directory
}

fn config(directory: &Path, timeout_seconds: u64) -> ExecConfig {
    let python = kongferry_harness::tools::python().unwrap();
    let command = [python.to_str().unwrap(), STUB, directory.to_str().unwrap()].map(str::to_owned);
    ExecConfig { command: command.into(), timeout_seconds, pass_env: vec!["KF_TEST_PASSED".to_owned()] }
}

async fn provider(directory: &Path) -> Provider {
    Provider::new(config(directory, 60)).await.unwrap()
}

fn turn(directory: &Path, knob: &str) {
    fs::write(directory.join(knob), "").unwrap();
}

#[tokio::test]
async fn a_cutover_and_its_way_back() {
    let directory = zone();
    let provider = provider(directory.path()).await;
    assert_eq!(provider.capabilities().weights, Weights::Whole { max_sum: 10_000 });
    assert_eq!(provider.capabilities().exclusion, Exclusion::CompareAndSwap);
    let target = target();
    provider.preflight(&target).await.unwrap();
    let before = provider.read(&target).await.unwrap();
    let change = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    let ticket = provider.apply(&change).await.unwrap();
    assert_eq!(ticket.change_id.as_deref(), Some("c2"));
    assert_eq!(provider.confirm(&ticket).await.unwrap(), Propagation::Pending);
    assert_eq!(provider.confirm(&ticket).await.unwrap(), Propagation::InSync);
    assert_eq!(change.outcome(&provider.read(&target).await.unwrap()), WriteOutcome::Applied);
    carry_out(&provider, &target, &rollback(2, 30)).await;
    carry_out(&provider, &target, &plain(Side::Blue, 300)).await;
    assert!(provider.read(&target).await.unwrap().matches(&before));
    let too_low = plan(&provider, &target, &split(3, percent(1), 1)).await.unwrap_err();
    assert_eq!(too_low.kind, DnsErrorKind::Unsupported);
}

#[tokio::test]
async fn a_stale_version_is_a_conflict() {
    let directory = zone();
    let (provider, target) = (provider(directory.path()).await, target());
    let first = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    let second = plan(&provider, &target, &split(1, percent(50), 30)).await.unwrap();
    provider.apply(&first).await.unwrap();
    assert_eq!(provider.apply(&second).await.unwrap_err().kind, DnsErrorKind::Conflict);
    provider.apply(&first).await.unwrap();
    assert_eq!(provider.read(&target).await.unwrap().share(), Some(percent(1)));
}

#[tokio::test]
async fn failures_are_what_the_program_says_they_are() {
    let directory = zone();
    let (provider, target) = (provider(directory.path()).await, target());
    let change = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    for (knob, kind) in [
        ("fail-auth", DnsErrorKind::Auth),
        ("fail-throttled", DnsErrorKind::Throttled { retry_after: Some(Duration::from_secs(7)) }),
        ("fail-invalid", DnsErrorKind::Invalid),
        ("nonsense", DnsErrorKind::Transient { may_be_applied: true }),
        ("crash", DnsErrorKind::Transient { may_be_applied: true }),
    ] {
        turn(directory.path(), knob);
        assert_eq!(provider.apply(&change).await.unwrap_err().kind, kind, "{knob}");
        assert_eq!(
            change.outcome(&provider.read(&target).await.unwrap()),
            WriteOutcome::NotApplied,
            "{knob}"
        );
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_and_what_it_did_is_found_out() {
    let directory = zone();
    let target = target();
    let patient = provider(directory.path()).await;
    let change = plan(&patient, &target, &split(1, Share::GREEN, 30)).await.unwrap();
    turn(directory.path(), "hang-after-write");
    // Long enough for Python to start on a busy machine, since what is written must have been written.
    let hasty = Provider::new(config(directory.path(), 10)).await.unwrap();
    let silent = hasty.apply(&change).await.unwrap_err();
    assert!(silent.may_be_applied() && silent.message.contains("10 s"), "{silent}");
    assert_eq!(change.outcome(&patient.read(&target).await.unwrap()), WriteOutcome::Applied);
}

#[tokio::test]
async fn the_program_sees_only_what_it_is_given() {
    let directory = zone();
    // Cargo sets variables of its own, so one that is surely there can be passed, and others be missed.
    let mut config = config(directory.path(), 60);
    config.pass_env = vec!["CARGO_PKG_NAME".to_owned()];
    let script = "import os, sys; sys.stderr.write(' '.join(sorted(os.environ))); sys.exit(3)";
    config.command = vec![config.command[0].clone(), "-c".to_owned(), script.to_owned()];
    let refused = Provider::new(config).await.unwrap_err();
    let seen = refused.details().join(" ");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(seen.contains("CARGO_PKG_NAME") && !seen.contains("CARGO_MANIFEST_DIR"), "{seen}");
}

#[tokio::test]
async fn the_section_of_the_file_makes_the_provider() {
    let directory = zone();
    let config = config(directory.path(), 60);
    let command = serde_json::to_string(&config.command).unwrap();
    let text = format!("kind = \"exec\"\ncommand = {command}\ntimeout_seconds = 60");
    let provider = toml::from_str::<ProviderConfig>(&text).unwrap().connect().await.unwrap();
    assert_eq!(provider.name(), "exec");
    let error = toml::from_str::<ProviderConfig>("kind = \"exec\"\ncommand = []\nfoo = 1").unwrap_err();
    assert!(error.to_string().contains("foo"), "{error}");
}

#[tokio::test]
async fn blue_comes_back_by_hand_from_the_configuration_alone() {
    let directory = zone();
    let (provider, target) = (provider(directory.path()).await, target());
    carry_out(&provider, &target, &split(1, percent(10), 30)).await;
    let command = ProviderConfig::Exec(config(directory.path(), 60)).manual_rollback(&target, 30).unwrap();
    let output = in_bash(&command, &[]);
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    let now = provider.read(&target).await.unwrap();
    assert_eq!((&now.records[0].state, now.max_ttl()), (&RecordState::Plain(Side::Blue), 30));
}
