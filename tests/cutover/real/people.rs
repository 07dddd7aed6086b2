//! People at the real program: a second operator, Ctrl-C, notifications, the numbers for the wall.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::site::{NAME, STEPS, Site, at_share, baking, ran};

fn slow() -> String {
    STEPS.replace("bake = \"1s\"", "bake = \"10m\"")
}

#[tokio::test]
async fn the_second_operator_is_told_who_and_when_and_may_still_go_back() {
    let site = Site::new(&slow()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow());
    let refused = ran(site.command_in(elsewhere.path(), &["start", "--yes"])).await.ends_with(4);
    assert!(refused.stderr.contains("a cutover is under way: "), "{refused:#?}");
    let refused = ran(site.command_in(elsewhere.path(), &["resume"])).await.ends_with(4);
    assert!(refused.stderr.contains(" has been running this cutover since "), "{refused:#?}");
    let nobody = ran(site.command_in(elsewhere.path(), &["pause"])).await.ends_with(4);
    assert!(nobody.stderr.contains("no process watches this cutover from "), "{nobody:#?}");
    // It is watched, only not from here.
    let seen = ran(site.command_in(elsewhere.path(), &["status"])).await.ends_with(0);
    assert!(seen.stdout.contains("holds the lease until ") && !seen.stdout.contains("nobody"), "{seen:#?}");
    ran(site.command_in(elsewhere.path(), &["rollback"])).await.ends_with(3);
    let ended = running.end().await.ends_with(3);
    assert!(ended.stdout.contains("Rolled back. rolled back by "), "{ended:#?}");
}

#[tokio::test]
async fn ctrl_c_without_a_terminal_leaves_the_records_and_resume_goes_on() {
    let site = Site::new(&STEPS.replacen("bake = \"1s\"", "bake = \"10m\"", 1)).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    running.signal(Signal::SIGINT);
    let left = running.end().await.ends_with(130);
    assert!(
        left.stdout.contains("The records send 1 % to green; no process watches the cutover."),
        "{left:#?}"
    );
    let status = site.status().await;
    assert_eq!((status["watched"].as_bool(), at_share(1)(&status)), (Some(false), true));

    let resumed = site.spawn(&["resume", "--no-wait"]);
    site.until("1 % again", |status| status["watched"] == true && baking(1)(status)).await;
    site.run(&["promote"]).await.ends_with(0);
    resumed.end().await.ends_with(0);
}

#[tokio::test]
async fn after_a_rollback_retry_goes_through_and_unlock_frees() {
    let site = Site::new(&slow()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["rollback"]).await.ends_with(0);
    running.end().await.ends_with(3);
    site.configure(site.home.path(), STEPS);
    site.run(&["retry", "--no-wait"]).await.ends_with(0);
    let unlocked = site.run(&["unlock"]).await.ends_with(0);
    assert!(unlocked.stdout.contains("It was held by "), "{unlocked:#?}");
    assert_eq!(site.marker().await.expect("a marker").lease_until, None);
}

#[tokio::test]
async fn what_is_not_proven_is_refused_where_nobody_can_be_asked() {
    let site = Site::new(&format!("{STEPS}[preflight]\n")).await;
    let changes_nothing = async |what: &str| {
        assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""], "{what}");
        let zone = site.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        zone["serial"].as_u64().expect("a serial")
    };
    let before = changes_nothing("at first").await;
    let planned = site.run(&["plan"]).await.ends_with(4);
    let said = planned.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = "unproven = [\"databases\", \"gates\", \"metrics\", \"nodes\"]";
    assert!(said.contains("ask no Prometheus") && said.contains(line), "{planned:#?}");
    let planned = site.run(&["plan", "--format", "json"]).await.ends_with(4).json();
    let open: Vec<&str> = planned["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter(|finding| finding["severity"] == "unproven")
        .filter_map(|finding| finding["unproven"].as_str())
        .collect();
    assert_eq!(open, ["gates", "metrics", "nodes", "databases"], "{planned:#}");
    // Neither --yes nor the lack of a terminal is an answer.
    for arguments in [&["start", "--yes"][..], &["start"]] {
        let refused = site.run(arguments).await.ends_with(4);
        assert!(
            refused.stderr.contains("could not prove 4 checks") && refused.stderr.contains(line),
            "{refused:#?}"
        );
        assert!(refused.stderr.contains("blue and green were not compared"), "{refused:#?}");
    }
    assert_eq!(changes_nothing("after refusals").await, before);

    // What the file takes on trust is a note; what it does not is refused.
    site.configure(
        site.home.path(),
        &format!("{STEPS}[preflight]\nunproven = [\"databases\", \"metrics\", \"gates\"]\n"),
    );
    let refused = site.run(&["start", "--yes"]).await.ends_with(4);
    assert!(
        refused.stderr.contains("could not prove 1 check")
            && refused.stderr.contains("unproven = [\"nodes\"]"),
        "{refused:#?}"
    );
    assert_eq!(changes_nothing("after refusals").await, before);
    site.configure(site.home.path(), &format!("{STEPS}[preflight]\nunproven = [\"metrix\"]\n"));
    let wrong = site.run(&["plan"]).await.ends_with(2);
    assert!(wrong.stderr.contains("metrix") && wrong.stderr.contains("restart"), "{wrong:#?}");
}

#[tokio::test]
async fn what_plan_prints_for_the_worst_case_can_be_pasted() {
    let site = Site::new(STEPS).await;
    let planned = site.run(&["plan"]).await.ends_with(0);
    let (_, by_hand) = planned.stdout.split_once("Manually, if kongferry cannot\n").expect("a command");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", pasted(by_hand)]);
    ran(bash).await.ends_with(0);
    assert_eq!(site.measured(500).await, 0.0);
    assert!(site.records().await[0].contains("{100,'192.0.2.1'}"), "{:?}", site.records().await);
}

#[tokio::test]
async fn at_a_terminal_one_question_lists_what_is_not_proven() {
    let site = Site::new(&format!("{STEPS}[preflight]\n")).await;
    let program = site.command(&["start", "--no-wait"]);
    let words: Vec<String> = std::iter::once(program.get_program())
        .chain(program.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    // script gives it a terminal.
    for (answer, code, begun) in [("n", 4, false), ("y", 0, true)] {
        let mut command = std::process::Command::new("script");
        command
            .args(["-qec", &words.join(" "), "/dev/null"])
            .current_dir(site.home.path())
            .env("TERM", "xterm");
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("script");
        let mut stdin = child.stdin.take().expect("its input");
        std::io::Write::write_all(&mut stdin, format!("{answer}\n").as_bytes()).expect("answered");
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .expect("a thread")
            .expect("an end");
        drop(stdin);
        let said = String::from_utf8_lossy(&ended.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(ended.status.code(), Some(code), "{said}");
        assert_eq!(said.matches("Not proven:").count(), 1, "{said}");
        assert_eq!(said.matches("[y/N]").count(), 1, "{said}");
        for thing in [
            "- no Prometheus",
            "- there are no gates",
            "- blue and green were not compared",
            "- green's nodes were not asked",
        ] {
            assert!(said.contains(thing), "{thing}: {said}");
        }
        assert_eq!(site.marker().await.is_some(), begun, "{said}");
    }
}

#[tokio::test]
async fn going_on_without_the_databases_is_refused_and_going_back_is_not() {
    let site = Site::new(&slow()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    running.kill();
    site.configure(
        site.home.path(),
        &format!("{}[preflight]\nunproven = [\"metrics\", \"gates\", \"nodes\"]\n", slow()),
    );
    let refused = site.run(&["resume"]).await.ends_with(4);
    assert!(
        refused.stderr.contains("will not be detected") && refused.stderr.contains("--blue and --green"),
        "{refused:#?}"
    );
    assert!(at_share(1)(&site.status().await));
    site.run(&["rollback"]).await.ends_with(3);
    site.run(&["finish"]).await.ends_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

#[tokio::test]
async fn a_record_that_is_not_blues_is_refused() {
    let site = Site::new(STEPS).await;
    let path = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("a file").replace("192.0.2.1\"", "192.0.2.9\"");
    std::fs::write(&path, text).expect("written");
    let refused = site.run(&["start", "--yes"]).await.ends_with(4);
    assert!(
        refused.stderr.contains("not what cutover.toml says") && refused.stderr.contains("192.0.2.1"),
        "{refused:#?}"
    );
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

/// Takes what is posted, and answers 200.
async fn receiver() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("its address"));
    let (sender, received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut text = Vec::new();
                let mut part = [0_u8; 4096];
                while let Ok(Ok(length @ 1..)) =
                    tokio::time::timeout(Duration::from_millis(300), stream.read(&mut part)).await
                {
                    text.extend_from_slice(&part[..length]);
                }
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
                let text = String::from_utf8_lossy(&text).into_owned();
                let _ = sender
                    .send(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default());
            });
        }
    });
    (url, received)
}

#[tokio::test]
async fn chats_and_hooks_are_told() {
    let (url, mut received) = receiver().await;
    let notify = format!(
        "{STEPS}\n[[notify]]\nformat = \"slack\"\nurl = \"{url}\"\n[hooks]\npre_step = {{ url = \"{url}\" }}\nevent = {{ run = [\"sh\", \"-c\", \"cat >> events; echo >> events\"] }}\n"
    );
    let site = Site::new(&notify).await;
    site.run(&["start", "--yes", "--no-wait"]).await.ends_with(0);
    let mut all = Vec::new();
    while let Ok(body) = received.try_recv() {
        all.push(serde_json::from_str::<serde_json::Value>(&body).unwrap_or_default());
    }
    let texts: Vec<&str> = all.iter().filter_map(|body| body["text"].as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("Step 2 of 3: 10 % to green (api.example.test/A)")),
        "{texts:#?}"
    );
    assert_eq!(all.iter().filter(|body| body["hook"] == "pre_step").count(), 3, "{all:#?}");
    let events = std::fs::read_to_string(site.home.path().join("events")).expect("events");
    assert!(events.lines().any(|line| line.contains("\"event\":\"drained\"")), "{events}");
}

#[tokio::test]
async fn a_hook_or_a_chat_that_cannot_be_called_stops_before_anything_is_changed() {
    let more = "[hooks]\nrollback = { run = [\"./close-connections.sh\"] }\n[[notify]]\nurl_env = \"NO_SUCH_CHAT\"\n";
    let site = Site::new(&format!("{STEPS}{more}")).await;
    let refused = site.run(&["start", "--yes"]).await.ends_with(4);
    for said in [
        "hooks.rollback: ./close-connections.sh is not an executable program",
        "[[notify]]: the variable NO_SUCH_CHAT is not set",
    ] {
        assert!(refused.stderr.contains(said), "{refused:#?}");
    }
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
    // Going back does not need them.
    site.dns.call("PATCH", "/zones/example.test.", Some(split_by_hand())).await.expect("a split");
    site.run(&["rollback"]).await.ends_with(3);
}

/// A tenth to green, by somebody who has no kongferry.
fn split_by_hand() -> serde_json::Value {
    let lua = "A \"pickwrandom({ {9,'192.0.2.1'}, {1,'192.0.2.2'} })\"";
    let set = |rtype: &str, change: &str, records: serde_json::Value| json!({ "name": format!("{NAME}."), "type": rtype, "ttl": 2, "changetype": change, "records": records });
    json!({ "rrsets": [
        set("A", "DELETE", json!([])),
        set("LUA", "REPLACE", json!([{ "content": lua, "disabled": false }])),
    ] })
}

#[tokio::test]
async fn a_split_that_nobody_marked_is_told_and_adopted_once() {
    let site = Site::new(&slow()).await;
    site.dns.call("PATCH", "/zones/example.test.", Some(split_by_hand())).await.expect("a split");
    let status = site.run(&["status", "--format", "json"]).await.ends_with(3).json();
    assert_eq!((status["state"].as_str(), at_share(10)(&status)), (Some("paused"), true), "{status:#}");
    let text = site.run(&["status"]).await.ends_with(3);
    assert!(text.stdout.contains("10 % to green without a marker"), "{text:#?}");
    assert!(!text.stdout.contains("not begun"), "{text:#?}");

    let running = site.spawn(&["adopt", "--from-provider"]);
    site.until("10 %", baking(10)).await;
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow());
    let refused = ran(site.command_in(elsewhere.path(), &["adopt", "--from-provider"])).await.ends_with(4);
    assert!(refused.stderr.contains(" has been running this cutover since "), "{refused:#?}");
    running.signal(Signal::SIGINT);
    running.end().await.ends_with(130);
}

#[tokio::test]
async fn a_rollback_before_anything_was_moved_leaves_the_record_as_it_is() {
    let site = Site::new(STEPS).await;
    for arguments in [&["rollback"][..], &["rollback", "--direct", "--reason", "to be sure"]] {
        let nothing = site.run(arguments).await.ends_with(0);
        assert!(nothing.stdout.contains("Nothing was moved"), "{nothing:#?}");
        assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
        assert_eq!(site.marker().await, None);
    }
    let nothing = site.run(&["rollback", "--format", "json"]).await.ends_with(0);
    assert_eq!(nothing.json()["outcome"], "nothing_moved");

    // Blue's address is not what stands there: that is for a rollback to mend.
    let path = site.home.path().join("cutover.toml");
    let text = std::fs::read_to_string(&path).expect("a file").replace("192.0.2.1\"", "192.0.2.9\"");
    std::fs::write(&path, text).expect("written");
    site.run(&["rollback"]).await.ends_with(3);
    assert!(site.records().await[0].contains("192.0.2.9"), "{:?}", site.records().await);
}

#[tokio::test]
async fn a_rollback_that_the_provider_refuses_prints_how_to_do_it_by_hand() {
    let site = Site::new(&slow()).await;
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
    site.configure_with(site.home.path(), &provider, &slow());
    let refused = site.run(&["rollback"]).await.ends_with(1);
    for said in
        ["To roll back manually, run this in bash", "curl", "{100,'192.0.2.1'}, {0,'192.0.2.2'}", "\nJSON\n"]
    {
        assert!(refused.stderr.contains(said), "{said}: {refused:#?}");
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
async fn without_journal_and_credentials_the_file_alone_says_how_to_bring_blue_back() {
    let site = Site::new(&slow()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    site.run(&["promote"]).await.ends_with(0);
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
    site.configure_with(elsewhere.path(), &provider, &slow());
    std::fs::write(&key, "not-the-key").expect("written");
    let refused = ran(site.command_in(elsewhere.path(), &["rollback"])).await.ends_with(1);
    std::fs::remove_file(&key).expect("gone");
    let missing = ran(site.command_in(elsewhere.path(), &["rollback"])).await.ends_with(2);
    assert_eq!(pasted(&refused.stderr), pasted(&missing.stderr));
    assert!(!refused.stderr.contains("not-the-key"), "{refused:#?}");
    assert!(at_share(10)(&site.status().await));

    // Somebody who has the key pastes it.
    std::fs::copy(site.dns.api_key_file(), &key).expect("the key");
    let mut bash = std::process::Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", pasted(&refused.stderr)]);
    ran(bash).await.ends_with(0);
    assert_eq!(site.measured(2000).await, 0.0);
    // The marker stayed, so the old TTL is still known.
    assert_eq!(site.marker().await, Some(marker));
    site.run(&["rollback"]).await.ends_with(3);
    site.run(&["finish"]).await.ends_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}

#[tokio::test]
async fn while_the_provider_is_down_nobody_waits_to_be_told_how_it_is_done_by_hand() {
    let site = Site::new(&slow()).await;
    let gone = "kind = \"powerdns\", url = \"http://127.0.0.1:9\", api_key = { env = \"PDNS_KEY\" }";
    site.configure_with(site.home.path(), gone, &slow());
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

#[tokio::test]
async fn status_says_why_it_went_back_here_and_on_another_machine() {
    let gate = "[[gate]]\nname = \"smoke\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"! test -e bad\"]\ninterval = \"500ms\"\n";
    let site = Site::new(&format!("{}{gate}", slow())).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    std::fs::write(site.home.path().join("bad"), "").expect("written");
    running.end().await.ends_with(3);
    let elsewhere = tempfile::tempdir().expect("a directory");
    site.configure(elsewhere.path(), &slow());
    let both = [site.home.path(), elsewhere.path()];
    for directory in both {
        let status =
            ran(site.command_in(directory, &["status", "--format", "json"])).await.ends_with(0).json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.starts_with("gate smoke: exit code 1"), "{status:#}");
        let text = ran(site.command_in(directory, &["status"])).await.ends_with(0);
        assert!(text.stdout.contains("ROLLED BACK"), "{text:#?}");
        assert!(text.stdout.contains("gate smoke: exit code 1"), "{text:#?}");
    }
    // It has gone back: who says so again replaces no reason.
    site.run(&["rollback", "--direct", "--reason", "to be sure"]).await.ends_with(3);
    for directory in both {
        let status =
            ran(site.command_in(directory, &["status", "--format", "json"])).await.ends_with(0).json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.starts_with("gate smoke: exit code 1"), "{status:#}");
    }
    // The next time it is a person, with a reason and without an engine.
    std::fs::remove_file(site.home.path().join("bad")).expect("removed");
    let running = site.spawn(&["retry"]);
    site.until("1 %", baking(1)).await;
    running.kill();
    site.run(&["rollback", "--direct", "--reason", "the owner of orders said so"]).await.ends_with(3);
    for directory in both {
        let status =
            ran(site.command_in(directory, &["status", "--format", "json"])).await.ends_with(0).json();
        let why = status["why_back"].as_str().unwrap_or_default();
        assert!(why.contains("the owner of orders said so") && why.contains('@'), "{status:#}");
    }
}

#[tokio::test]
async fn the_wall_gets_its_numbers() {
    let site = Site::new(&slow()).await;
    let address = format!("127.0.0.1:{}", kongferry_harness::ports::free().expect("a port"));
    let _running = site.spawn(&["start", "--yes", "--metrics-listen", &address]);
    site.until("1 %", baking(1)).await;
    let mut stream = TcpStream::connect(&address).await.expect("an exporter");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("an answer");
    assert!(text.contains("kongferry_cutover_share_ratio 0.01\n"), "{text}");
    assert!(text.contains("kongferry_cutover_state{state=\"step\"} 1\n"), "{text}");
    for (request, answer) in [
        ("HEAD /metrics", "HTTP/1.1 200 OK"),
        ("GET /metrics?x=1", "HTTP/1.1 200 OK"),
        ("GET /metricsandmore", "HTTP/1.1 404 Not Found"),
        ("POST /metrics", "HTTP/1.1 405 Method Not Allowed"),
    ] {
        let mut stream = TcpStream::connect(&address).await.expect("an exporter");
        stream.write_all(format!("{request} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        assert!(text.starts_with(answer), "{request}: {text}");
        assert_eq!(request.starts_with("HEAD"), text.ends_with("\r\n\r\n"), "{request}: {text}");
    }
}

#[tokio::test]
async fn it_watches_after_the_drain_until_another_terminal_says_finish() {
    let gate = "[[gate]]\nname = \"smoke\"\nkind = \"command\"\nrun = [\"sh\", \"-c\", \"! test -e bad\"]\ninterval = \"500ms\"\n";
    let steps = "[[step]]\nshare = 100\nbake = \"1s\"\n";
    let site = Site::new(&format!("{steps}{gate}")).await;
    let running = site.spawn(&["start", "--yes"]);
    let drained = site.until("a drain", |status| status["state"] == "drained").await;
    assert_eq!(drained["watched"], true, "{drained:#}");
    let text = site.run(&["status"]).await.ends_with(0);
    assert!(text.stdout.contains("drained; \"kongferry cutover finish\" restores the TTL"), "{text:#?}");
    let finished = site.run(&["finish"]).await.ends_with(0);
    assert!(finished.stdout.contains("Blue can be shut down."), "{finished:#?}");
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.2\""]);
    let ended = running.end().await.ends_with(0);
    assert!(ended.stdout.contains("Finished."), "{ended:#?}");

    // Another one that turns bad when it has drained, and one that is left there.
    let site = Site::new(&format!("{steps}{gate}")).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("a drain", |status| status["state"] == "drained").await;
    running.signal(Signal::SIGINT);
    let left = running.end().await.ends_with(130);
    assert!(left.stdout.contains("The cutover has drained; no process watches it."), "{left:#?}");
    let running = site.spawn(&["resume"]);
    site.until("a drain", |status| status["state"] == "drained" && status["watched"] == true).await;
    std::fs::write(site.home.path().join("bad"), "").expect("written");
    let ended = running.end().await.ends_with(3);
    assert!(ended.stdout.contains("gate smoke: exit code 1"), "{ended:#?}");
    assert_eq!(site.measured(300).await, 0.0);
}
