//! A second operator, Ctrl-C, retry, adopt and finish with the real program.

use nix::sys::signal::Signal;

use super::site::{STEPS, Site, at_share, baking, manual_split, run_command, slow_steps};

#[tokio::test]
async fn a_second_operator_is_refused_with_the_owner_and_may_roll_back() {
    let site = Site::new(&slow_steps()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow_steps());
    let refused = run_command(site.command_in(elsewhere.path(), &["start", "--yes"])).await.exits_with(4);
    assert!(refused.stderr.contains("a cutover is under way: "), "{refused:#?}");
    let refused = run_command(site.command_in(elsewhere.path(), &["resume"])).await.exits_with(4);
    assert!(refused.stderr.contains(" has been running this cutover since "), "{refused:#?}");
    let nobody = run_command(site.command_in(elsewhere.path(), &["pause"])).await.exits_with(4);
    assert!(nobody.stderr.contains("no process watches this cutover from "), "{nobody:#?}");
    // It is watched, only not from here.
    let seen = run_command(site.command_in(elsewhere.path(), &["status"])).await.exits_with(0);
    assert!(seen.stdout.contains("holds the lease until ") && !seen.stdout.contains("nobody"), "{seen:#?}");
    run_command(site.command_in(elsewhere.path(), &["rollback"])).await.exits_with(3);
    let ended = running.end().await.exits_with(3);
    assert!(ended.stdout.contains("Rolled back. rolled back by "), "{ended:#?}");
}

#[tokio::test]
async fn ctrl_c_without_a_terminal_leaves_the_records_and_resume_continues() {
    let site = Site::new(&STEPS.replacen("bake = \"1s\"", "bake = \"10m\"", 1)).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    running.signal(Signal::SIGINT);
    let left = running.end().await.exits_with(130);
    assert!(
        left.stdout.contains("The records send 1 % to green; no process watches the cutover."),
        "{left:#?}"
    );
    let status = site.status().await;
    assert_eq!((status["watched"].as_bool(), at_share(1)(&status)), (Some(false), true));

    let resumed = site.spawn(&["resume", "--no-wait"]);
    site.until("1 % again", |status| status["watched"] == true && baking(1)(status)).await;
    site.run(&["promote"]).await.exits_with(0);
    resumed.end().await.exits_with(0);
}

#[tokio::test]
async fn after_a_rollback_retry_completes_and_unlock_releases_the_lease() {
    let site = Site::new(&slow_steps()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["rollback"]).await.exits_with(0);
    running.end().await.exits_with(3);
    site.configure(site.home.path(), STEPS);
    site.run(&["retry", "--no-wait"]).await.exits_with(0);
    let unlocked = site.run(&["unlock"]).await.exits_with(0);
    assert!(unlocked.stdout.contains("It was held by "), "{unlocked:#?}");
    assert_eq!(site.marker().await.expect("a marker").lease_until, None);
}

#[tokio::test]
async fn a_record_with_other_values_than_blues_is_refused() {
    let site = Site::new(STEPS).await;
    let path = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("a file").replace("192.0.2.1\"", "192.0.2.9\"");
    std::fs::write(&path, text).expect("written");
    let refused = site.run(&["start", "--yes"]).await.exits_with(4);
    assert!(
        refused.stderr.contains("are not those in cutover.toml") && refused.stderr.contains("192.0.2.1"),
        "{refused:#?}"
    );
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

#[tokio::test]
async fn a_split_without_a_marker_is_shown_and_adopted_once() {
    let site = Site::new(&slow_steps()).await;
    site.dns.call("PATCH", "/zones/example.test.", Some(manual_split())).await.expect("a split");
    let status = site.run(&["status", "--format", "json"]).await.exits_with(3).json();
    assert_eq!((status["state"].as_str(), at_share(10)(&status)), (Some("paused"), true), "{status:#}");
    let text = site.run(&["status"]).await.exits_with(3);
    assert!(text.stdout.contains("10 % to green without a marker"), "{text:#?}");
    assert!(!text.stdout.contains("not begun"), "{text:#?}");

    let running = site.spawn(&["adopt", "--from-provider"]);
    site.until("10 %", baking(10)).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow_steps());
    let refused =
        run_command(site.command_in(elsewhere.path(), &["adopt", "--from-provider"])).await.exits_with(4);
    assert!(refused.stderr.contains(" has been running this cutover since "), "{refused:#?}");
    running.signal(Signal::SIGINT);
    running.end().await.exits_with(130);
}

#[tokio::test]
async fn a_rollback_of_unmoved_records_changes_nothing() {
    let site = Site::new(STEPS).await;
    for arguments in [&["rollback"][..], &["rollback", "--direct", "--reason", "to be sure"]] {
        let nothing = site.run(arguments).await.exits_with(0);
        assert!(nothing.stdout.contains("Nothing was moved"), "{nothing:#?}");
        assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
        assert_eq!(site.marker().await, None);
    }
    let nothing = site.run(&["rollback", "--format", "json"]).await.exits_with(0);
    assert_eq!(nothing.json()["outcome"], "nothing_moved");

    // The record does not have blue's address: a rollback writes it.
    let path = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("a file").replace("192.0.2.1\"", "192.0.2.9\"");
    std::fs::write(&path, text).expect("written");
    site.run(&["rollback"]).await.exits_with(3);
    assert!(site.records().await[0].contains("192.0.2.9"), "{:?}", site.records().await);
}

#[tokio::test]
async fn status_shows_the_rollback_reason_on_every_machine() {
    let gate = "[[gate]]\nname = \"smoke\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"! test -e bad\"]\ninterval = \"500ms\"\n";
    let site = Site::new(&format!("{}{gate}", slow_steps())).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    std::fs::write(site.home.path().join("bad"), "").expect("written");
    running.end().await.exits_with(3);
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow_steps());
    let both = [site.home.path(), elsewhere.path()];
    for directory in both {
        let status = run_command(site.command_in(directory, &["status", "--format", "json"]))
            .await
            .exits_with(0)
            .json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.starts_with("gate smoke: exit code 1"), "{status:#}");
        let text = run_command(site.command_in(directory, &["status"])).await.exits_with(0);
        assert!(text.stdout.contains("ROLLED BACK"), "{text:#?}");
        assert!(text.stdout.contains("gate smoke: exit code 1"), "{text:#?}");
    }
    // A second rollback keeps the first reason.
    site.run(&["rollback", "--direct", "--reason", "to be sure"]).await.exits_with(3);
    for directory in both {
        let status = run_command(site.command_in(directory, &["status", "--format", "json"]))
            .await
            .exits_with(0)
            .json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.starts_with("gate smoke: exit code 1"), "{status:#}");
    }
    // An operator's reason, without an engine.
    std::fs::remove_file(site.home.path().join("bad")).expect("removed");
    let running = site.spawn(&["retry"]);
    site.until("1 %", baking(1)).await;
    running.kill();
    site.run(&["rollback", "--direct", "--reason", "the owner of orders message so"]).await.exits_with(3);
    for directory in both {
        let status = run_command(site.command_in(directory, &["status", "--format", "json"]))
            .await
            .exits_with(0)
            .json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.contains("the owner of orders message so") && why.contains('@'), "{status:#}");
    }
}

#[tokio::test]
async fn a_drained_engine_watches_until_finish_in_another_terminal() {
    let gate = "[[gate]]\nname = \"smoke\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"! test -e bad\"]\ninterval = \"500ms\"\n";
    let steps = "[[step]]\nshare = 100\nbake = \"1s\"\n";
    let site = Site::new(&format!("{steps}{gate}")).await;
    let running = site.spawn(&["start", "--yes"]);
    let drained = site.until("a drain", |status| status["state"] == "drained").await;
    assert_eq!(drained["watched"], true, "{drained:#}");
    let text = site.run(&["status"]).await.exits_with(0);
    assert!(text.stdout.contains("drained; \"kongferry cutover finish\" restores the TTL"), "{text:#?}");
    let finished = site.run(&["finish"]).await.exits_with(0);
    assert!(finished.stdout.contains("Blue can be shut down."), "{finished:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
    let ended = running.end().await.exits_with(0);
    assert!(ended.stdout.contains("Finished."), "{ended:#?}");

    // A gate that fails after the drain, in an engine that was left and resumed.
    let site = Site::new(&format!("{steps}{gate}")).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("a drain", |status| status["state"] == "drained").await;
    running.signal(Signal::SIGINT);
    let left = running.end().await.exits_with(130);
    assert!(left.stdout.contains("The cutover has drained; no process watches it."), "{left:#?}");
    let running = site.spawn(&["resume"]);
    site.until("a drain", |status| status["state"] == "drained" && status["watched"] == true).await;
    std::fs::write(site.home.path().join("bad"), "").expect("written");
    let ended = running.end().await.exits_with(3);
    assert!(ended.stdout.contains("gate smoke: exit code 1"), "{ended:#?}");
    assert_eq!(site.measured(300).await, 0.0);
}
