//! The operator's own program: here one in Python, whose zone is a JSON file.

use std::fs;
use std::path::Path;
use std::time::Duration;

use kongferry::dns::exec::{Exec as Provider, ExecConfig};
use kongferry::dns::{
    DnsErrorKind, DnsProvider, Exclusion, Propagation, ProviderConfig, RecordState, Share, SiblingRecord,
    Side, Weights, WriteOutcome,
};
use serde_json::{Value, json};

use crate::support::{apply, percent, plain, plan, rollback, run_in_bash, split, target};

const MINUTE: Duration = Duration::from_secs(60);
const STUB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/stub.py");

fn zone() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let record =
        json!({ "name": "api.example.test", "type": "A", "state": "plain", "side": "blue", "ttl": 300 });
    let state = json!({ "version": 1, "records": [record], "marker": null, "asked": 0 });
    fs::write(directory.path().join("state.json"), state.to_string()).unwrap();
    directory
}

fn config(directory: &Path, timeout: Duration) -> ExecConfig {
    let python = kongferry_harness::tools::python().unwrap();
    let command = [python.to_str().unwrap(), STUB, directory.to_str().unwrap()].map(str::to_owned);
    ExecConfig { command: command.into(), timeout, pass_env: vec!["KF_TEST_PASSED".to_owned()] }
}

async fn provider(directory: &Path) -> Provider {
    Provider::new(config(directory, MINUTE)).await.unwrap()
}

/// Makes the program's next call fail; see `stub.py`.
fn inject(directory: &Path, fault: &str) {
    fs::write(directory.join(fault), "").unwrap();
}

#[tokio::test]
async fn a_cutover_and_its_rollback() {
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
    apply(&provider, &target, &rollback(2, 30)).await;
    apply(&provider, &target, &plain(Side::Blue, 300)).await;
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
async fn failures_have_the_kind_that_the_program_reports() {
    let directory = zone();
    let (provider, target) = (provider(directory.path()).await, target());
    let change = plan(&provider, &target, &split(1, percent(1), 30)).await.unwrap();
    for (fault, kind) in [
        ("fail-auth", DnsErrorKind::Auth),
        ("fail-throttled", DnsErrorKind::Throttled { retry_after: Some(Duration::from_secs(7)) }),
        ("fail-invalid", DnsErrorKind::Invalid),
        ("nonsense", DnsErrorKind::Transient { may_be_applied: true }),
        ("crash", DnsErrorKind::Transient { may_be_applied: true }),
    ] {
        inject(directory.path(), fault);
        assert_eq!(provider.apply(&change).await.unwrap_err().kind, kind, "{fault}");
        assert_eq!(
            change.outcome(&provider.read(&target).await.unwrap()),
            WriteOutcome::NotApplied,
            "{fault}"
        );
    }
}

#[tokio::test]
async fn a_program_is_killed_at_the_timeout_and_its_write_is_detected() {
    let directory = zone();
    let target = target();
    let provider = provider(directory.path()).await;
    let change = plan(&provider, &target, &split(1, Share::GREEN, 30)).await.unwrap();
    inject(directory.path(), "hang-after-write");
    // Long enough for Python to start and to write on a busy machine.
    let impatient = Provider::new(config(directory.path(), Duration::from_secs(10))).await.unwrap();
    let timed_out = impatient.apply(&change).await.unwrap_err();
    assert!(timed_out.may_be_applied() && timed_out.message.contains("10s"), "{timed_out}");
    assert_eq!(change.outcome(&provider.read(&target).await.unwrap()), WriteOutcome::Applied);
}

#[tokio::test]
async fn the_program_gets_only_the_listed_variables() {
    let directory = zone();
    // Cargo sets variables of its own: one of them is passed, another one is not.
    let mut config = config(directory.path(), MINUTE);
    config.pass_env = vec!["CARGO_PKG_NAME".to_owned()];
    let script = "import os, sys; sys.stderr.write(' '.join(sorted(os.environ))); sys.exit(3)";
    config.command = vec![config.command[0].clone(), "-c".to_owned(), script.to_owned()];
    let error = Provider::new(config).await.unwrap_err();
    let variables = error.details().join(" ");
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(variables.contains("CARGO_PKG_NAME") && !variables.contains("CARGO_MANIFEST_DIR"), "{variables}");
}

#[tokio::test]
async fn the_provider_is_made_from_cutover_toml() {
    let directory = zone();
    let config = config(directory.path(), MINUTE);
    let command = serde_json::to_string(&config.command).unwrap();
    let text = format!("kind = \"exec\"\ncommand = {command}\ntimeout = \"1m\"");
    let provider = toml::from_str::<ProviderConfig>(&text).unwrap().connect().await.unwrap();
    assert_eq!(provider.name(), "exec");
    let error = toml::from_str::<ProviderConfig>("kind = \"exec\"\ncommand = []\nfoo = 1").unwrap_err();
    assert!(error.to_string().contains("foo"), "{error}");
}

#[tokio::test]
async fn siblings_are_read_under_both_names() {
    for (name, rtype) in [("siblings", "type"), ("neighbours", "rtype")] {
        let directory = zone();
        let path = directory.path().join("state.json");
        let mut state: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        state["records"][0][name] = json!([{ rtype: "HTTPS", "ttl": 60, "text": "1 ." }]);
        fs::write(&path, state.to_string()).unwrap();
        let observed = provider(directory.path()).await.read(&target()).await.unwrap();
        let sibling = SiblingRecord { rtype: "HTTPS".to_owned(), ttl: 60, text: "1 .".to_owned() };
        assert_eq!(observed.records[0].siblings, [sibling], "{name}");
    }
}

#[tokio::test]
async fn the_manual_rollback_needs_only_the_configuration() {
    let directory = zone();
    let (provider, target) = (provider(directory.path()).await, target());
    apply(&provider, &target, &split(1, percent(10), 30)).await;
    let command =
        ProviderConfig::Exec(config(directory.path(), MINUTE)).manual_rollback(&target, 30).unwrap();
    let output = run_in_bash(&command, &[]);
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    let now = provider.read(&target).await.unwrap();
    assert_eq!((&now.records[0].state, now.max_ttl()), (&RecordState::Plain(Side::Blue), 30));
}
