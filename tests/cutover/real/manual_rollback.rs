//! The manual rollback that is printed when the provider refuses or does not answer.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::site::{STEPS, Site, at_share, baking, run_command, slow_steps};

#[tokio::test]
async fn the_manual_rollback_of_plan_can_be_pasted() {
    let site = Site::new(STEPS).await;
    let planned = site.run(&["plan"]).await.exits_with(0);
    let (_, by_hand) = planned.stdout.split_once("Manually, if kongferry cannot\n").expect("a command");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", pasted(by_hand)]);
    run_command(bash).await.exits_with(0);
    assert_eq!(site.measured(500).await, 0.0);
    assert!(site.records().await[0].contains("{100,'192.0.2.1'}"), "{:?}", site.records().await);
}

#[tokio::test]
async fn a_rollback_refused_by_the_provider_prints_the_manual_rollback() {
    let site = Site::new(&slow_steps()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    running.kill();
    let key = site.home.path().join("wrong-key");
    std::fs::write(&key, "not-the-key").expect("written");
    let provider = format!(
        "kind = \"powerdns\", url = \"{}\", api_key = {{ file = \"{}\" }}",
        site.dns.url(),
        key.display()
    );
    site.configure_with(site.home.path(), &provider, &slow_steps());
    let refused = site.run(&["rollback"]).await.exits_with(1);
    for message in
        ["To roll back manually, run this in bash", "curl", "{100,'192.0.2.1'}, {0,'192.0.2.2'}", "\nJSON\n"]
    {
        assert!(refused.stderr.contains(message), "{message}: {refused:#?}");
    }
    assert!(!refused.stderr.contains("not-the-key"), "{refused:#?}");
}

/// What was printed to be pasted into a shell.
fn pasted(stderr: &str) -> &str {
    let from = stderr.find("curl ").expect("a command");
    let to = stderr[from..].find("\nJSON\n").expect("its end") + from;
    &stderr[from..to + "\nJSON\n".len()]
}

#[tokio::test]
async fn the_manual_rollback_needs_only_the_file() {
    let site = Site::new(&slow_steps()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["promote"]).await.exits_with(0);
    site.until("10 %", at_share(10)).await;
    running.kill();
    let marker = site.marker().await.expect("a marker");

    // Another machine: no journal, and a key that PowerDNS refuses; then none at all.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let key = elsewhere.path().join("key");
    let provider = format!(
        "kind = \"powerdns\", url = \"{}\", api_key = {{ file = \"{}\" }}",
        site.dns.url(),
        key.display()
    );
    site.configure_with(elsewhere.path(), &provider, &slow_steps());
    std::fs::write(&key, "not-the-key").expect("written");
    let refused = run_command(site.command_in(elsewhere.path(), &["rollback"])).await.exits_with(1);
    std::fs::remove_file(&key).expect("gone");
    let missing = run_command(site.command_in(elsewhere.path(), &["rollback"])).await.exits_with(2);
    assert_eq!(pasted(&refused.stderr), pasted(&missing.stderr));
    assert!(!refused.stderr.contains("not-the-key"), "{refused:#?}");
    assert!(at_share(10)(&site.status().await));

    // It works with the right key.
    std::fs::copy(site.dns.api_key_file(), &key).expect("the key");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", pasted(&refused.stderr)]);
    run_command(bash).await.exits_with(0);
    assert_eq!(site.measured(2000).await, 0.0);
    // The marker is unchanged and has the old TTL.
    assert_eq!(site.marker().await, Some(marker));
    site.run(&["rollback"]).await.exits_with(3);
    site.run(&["finish"]).await.exits_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

#[tokio::test]
async fn while_the_provider_is_down_the_manual_rollback_is_printed_at_once() {
    let site = Site::new(&slow_steps()).await;
    let gone = "kind = \"powerdns\", url = \"http://127.0.0.1:9\", api_key = { env = \"PDNS_KEY\" }";
    site.configure_with(site.home.path(), gone, &slow_steps());
    let mut command = site.command(&["rollback"]);
    command.env("PDNS_KEY", "s3cr3t-of-pdns");
    let running = site.spawn_command(command);
    tokio::time::sleep(Duration::from_secs(6)).await;
    running.signal(Signal::SIGKILL);
    let killed = running.end().await;
    assert_eq!(killed.stderr.matches("To roll back manually").count(), 1, "{killed:#?}");
    assert!(pasted(&killed.stderr).contains("\"$PDNS_KEY\""), "{killed:#?}");
    assert!(!killed.stderr.contains("s3cr3t"), "{killed:#?}");
}
