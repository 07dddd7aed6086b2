//! What preflight cannot prove: refused without a terminal, asked at one, accepted by `cutover.toml`.

use super::site::{STEPS, Site, at_share, baking, slow_steps};

#[tokio::test]
async fn unproven_findings_refuse_start_without_a_terminal() {
    let site = Site::new(&format!("{STEPS}[preflight]\n")).await;
    let changes_nothing = async |what: &str| {
        assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""], "{what}");
        let zone = site.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        zone["serial"].as_u64().expect("a serial")
    };
    let before = changes_nothing("at first").await;
    let planned = site.run(&["plan"]).await.exits_with(4);
    let message = planned.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let line = "unproven = [\"databases\", \"gates\", \"metrics\", \"nodes\"]";
    assert!(message.contains("ask no Prometheus") && message.contains(line), "{planned:#?}");
    let planned = site.run(&["plan", "--format", "json"]).await.exits_with(4).json();
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
        let refused = site.run(arguments).await.exits_with(4);
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
    let refused = site.run(&["start", "--yes"]).await.exits_with(4);
    assert!(
        refused.stderr.contains("could not prove 1 check")
            && refused.stderr.contains("unproven = [\"nodes\"]"),
        "{refused:#?}"
    );
    assert_eq!(changes_nothing("after refusals").await, before);
    site.configure(site.home.path(), &format!("{STEPS}[preflight]\nunproven = [\"metrix\"]\n"));
    let wrong = site.run(&["plan"]).await.exits_with(2);
    assert!(wrong.stderr.contains("metrix") && wrong.stderr.contains("restart"), "{wrong:#?}");
}

#[tokio::test]
async fn at_a_terminal_one_question_lists_unproven_findings() {
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
        let message = String::from_utf8_lossy(&ended.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(ended.status.code(), Some(code), "{message}");
        assert_eq!(message.matches("Not proven:").count(), 1, "{message}");
        assert_eq!(message.matches("[y/N]").count(), 1, "{message}");
        for thing in [
            "- no Prometheus",
            "- there are no gates",
            "- blue and green were not compared",
            "- the plugins, database and data planes of green's nodes were not checked",
        ] {
            assert!(message.contains(thing), "{thing}: {message}");
        }
        assert_eq!(site.marker().await.is_some(), begun, "{message}");
    }
}

#[tokio::test]
async fn without_the_databases_resume_is_refused_and_rollback_is_not() {
    let site = Site::new(&slow_steps()).await;
    let running = site.spawn(&["start", "--yes"]);
    site.until("1 %", baking(1)).await;
    running.kill();
    site.configure(
        site.home.path(),
        &format!("{}[preflight]\nunproven = [\"metrics\", \"gates\", \"nodes\"]\n", slow_steps()),
    );
    let refused = site.run(&["resume"]).await.exits_with(4);
    assert!(
        refused.stderr.contains("will not be detected") && refused.stderr.contains("--blue and --green"),
        "{refused:#?}"
    );
    assert!(at_share(1)(&site.status().await));
    site.run(&["rollback"]).await.exits_with(3);
    site.run(&["finish"]).await.exits_with(0);
    assert_eq!(site.records().await, ["\"A\" 2 \"192.0.2.1\""]);
}
