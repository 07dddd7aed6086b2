//! kill -9 of the real binary: just before the provider is written to, and just after, and in between. Another
//! directory, without the journal, resumes or rolls back.

use std::time::{Duration, Instant};

use futures::StreamExt;
use kongferry::dns::Share;

use super::site::{NAME, STEPS, Site, at_share, run_command};

/// Kills a `start` when it comes to a failpoint first.
async fn killed_at(site: &Site, place: &str) {
    let file = site.home.path().join("held");
    let mut command = site.command(&["start", "--yes"]);
    command.env("KONGFERRY_PAUSE_AT", place).env("KONGFERRY_PAUSE_FILE", &file);
    let mut child = command.spawn().expect("the program");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < deadline, "{place} never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
}

#[tokio::test]
async fn after_a_kill_around_the_first_write_another_directory_starts_or_resumes() {
    for (place, written) in [("cutover-intent", false), ("cutover-applied", true)] {
        let site = Site::new(STEPS).await;
        killed_at(&site, place).await;
        assert_eq!(site.marker().await.is_some(), written, "{place}");
        let elsewhere = tempfile::tempdir().expect("a directory");
        site.configure(elsewhere.path(), STEPS);
        let how: &[&str] = if written { &["resume", "--no-wait"] } else { &["start", "--yes", "--no-wait"] };
        let ended = run_command(site.command_in(elsewhere.path(), how)).await.exits_with(0);
        assert!(ended.stdout.contains("Drained."), "{place}: {ended:#?}");
    }
}

#[tokio::test]
async fn after_a_kill_while_baking_another_directory_resumes_or_rolls_back() {
    for (command, code, share) in
        [(&["resume", "--no-wait"][..], 0, Share::GREEN), (&["rollback"], 3, Share::BLUE)]
    {
        let slow = STEPS.replace("bake = \"1s\"", "bake = \"4s\"");
        let site = Site::new(&slow).await;
        let running = site.spawn(&["start", "--yes"]);
        site.until("10 %", |status| at_share(10)(status)).await;
        running.kill();
        let elsewhere = tempfile::tempdir().expect("a directory");
        site.configure(elsewhere.path(), &slow);
        let status =
            run_command(site.command_in(elsewhere.path(), &["status", "--format", "json"])).await.json();
        assert_eq!((status["watched"].as_bool(), status["state"].as_str()), (Some(false), Some("step")));
        assert!(at_share(10)(&status), "{status:#}");
        run_command(site.command_in(elsewhere.path(), command)).await.exits_with(code);
        assert_eq!(site.measured(300).await, share.fraction(), "{command:?}");
    }
}

/// Kills a `start` as soon as its journal has so many lines of the way; whether it came so far.
async fn killed_at_transition(site: &Site, transition: usize) -> bool {
    let journal = site.home.path().join(".kongferry-cutover").join(NAME).join("journal.jsonl");
    let mut child = site.command(&["start", "--yes", "--no-wait"]).spawn().expect("the program");
    loop {
        let lines = std::fs::read_to_string(&journal).unwrap_or_default();
        let seen = lines.lines().filter(|line| line.contains("\"entry\":\"phase\"")).count();
        if seen >= transition {
            child.kill().expect("killed");
            child.wait().expect("gone");
            return true;
        }
        if child.try_wait().expect("its state").is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// One kill; then another directory, which has no journal, resumes or rolls back. Whether the run came so far.
async fn killed_and_taken_over(transition: usize, back: bool) -> bool {
    let steps = "[[step]]\nshare = 10\nbake = \"300ms\"\n[[step]]\nshare = 100\nbake = \"300ms\"\n";
    let site = Site::new(steps).await;
    let came_so_far = killed_at_transition(&site, transition).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), steps);
    let begun = site.marker().await.is_some();
    let (how, code, share): (&[&str], i32, f64) = match (back, begun) {
        (true, true) => (&["rollback"], 3, 0.0),
        // Killed before its first write: nothing was moved.
        (true, false) => (&["rollback"], 0, 0.0),
        (false, true) => (&["resume", "--no-wait"], 0, 1.0),
        (false, false) => (&["start", "--yes", "--no-wait"], 0, 1.0),
    };
    let ended = run_command(site.command_in(elsewhere.path(), how)).await;
    assert_eq!(ended.code, code, "{how:?} after {transition} transitions: {ended:#?}");
    assert_eq!(site.measured(300).await, share, "{how:?} after {transition} transitions");
    came_so_far
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes long: make soak runs it"]
async fn after_a_kill_at_every_transition_another_directory_resumes_or_rolls_back() {
    // Lowering, ready, two steps of six activities, draining, drained; the last number is one too many.
    // On and back in turn; the simulated kills do both at every place.
    let mut kills = futures::stream::iter(1..=22)
        .map(|transition| async move {
            (transition, killed_and_taken_over(transition, transition % 2 == 0).await)
        })
        .buffer_unordered(4);
    let mut farthest = 0;
    while let Some((transition, came_so_far)) = kills.next().await {
        if came_so_far {
            farthest = farthest.max(transition);
        }
    }
    assert!((15..22).contains(&farthest), "{farthest} transitions in a run");
}
