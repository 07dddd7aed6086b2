//! kill -9 of the real binary: just before the provider is written to, and just after, and in between. Another
//! directory, without the journal, goes on or goes back.

use std::time::{Duration, Instant};

use kongferry::dns::Share;

use super::site::{STEPS, Site, at_share, ran};

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
async fn killed_around_the_first_write_another_directory_begins_or_goes_on() {
    for (place, written) in [("cutover-intent", false), ("cutover-applied", true)] {
        let site = Site::new(STEPS).await;
        killed_at(&site, place).await;
        assert_eq!(site.marker().await.is_some(), written, "{place}");
        let elsewhere = tempfile::tempdir().expect("a directory");
        site.configure(elsewhere.path(), STEPS);
        let how: &[&str] = if written { &["resume"] } else { &["start", "--yes"] };
        let ended = ran(site.command_in(elsewhere.path(), how)).await.ends_with(0);
        assert!(ended.stdout.contains("Drained."), "{place}: {ended:#?}");
    }
}

#[tokio::test]
async fn killed_while_it_bakes_another_directory_goes_on_or_goes_back() {
    for (command, code, share) in [("resume", 0, Share::GREEN), ("rollback", 3, Share::BLUE)] {
        let slow = STEPS.replace("bake = \"1s\"", "bake = \"4s\"");
        let site = Site::new(&slow).await;
        let running = site.spawn(&["start", "--yes"]);
        site.until("10 %", |status| at_share(10)(status)).await;
        running.kill();
        let elsewhere = tempfile::tempdir().expect("a directory");
        site.configure(elsewhere.path(), &slow);
        let status = ran(site.command_in(elsewhere.path(), &["status", "--format", "json"])).await.json();
        assert_eq!((status["watched"].as_bool(), status["state"].as_str()), (Some(false), Some("step")));
        assert!(at_share(10)(&status), "{status:#}");
        ran(site.command_in(elsewhere.path(), &[command])).await.ends_with(code);
        assert_eq!(site.measured(300).await, share.fraction(), "{command}");
    }
}
