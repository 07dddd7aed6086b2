//! `cutover init` against real providers: what it writes is what `plan` accepts once green's values are filled in.

use std::path::Path;
use std::process::Command;

use kongferry_harness::dns::{Bind, PowerDns};
use kongferry_harness::route53::FakeRoute53;
use serde_json::{Value, json};

use super::site::{CommandOutput, run_command};

/// `kongferry cutover …` in a directory, with the credentials of tests in its environment.
async fn call(directory: &Path, arguments: &[&str]) -> CommandOutput {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
    for (name, _) in std::env::vars() {
        if ["KONG", "PG", "XDG", "AWS"].iter().any(|start| name.starts_with(start)) {
            command.env_remove(name);
        }
    }
    command.current_dir(directory).env("NO_COLOR", "1").arg("cutover").args(arguments);
    command.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-aws");
    command.stdin(std::process::Stdio::null());
    run_command(command).await
}

/// Fills in green's values one after the other.
fn fill_in(directory: &Path, values: &[&str]) -> String {
    let file = directory.join("cutover.toml");
    let mut text = std::fs::read_to_string(&file).expect("a file");
    for value in values {
        text = text.replacen("\"TODO\"", &format!("\"{value}\""), 1);
    }
    assert!(!text.contains("\"TODO\""), "{text}");
    std::fs::write(&file, &text).expect("written");
    text
}

fn set(name: &str, rtype: &str, ttl: u32, content: &str) -> Value {
    json!({ "name": format!("{name}.example.test."), "type": rtype, "ttl": ttl,
            "records": [{ "content": content, "disabled": false }] })
}

async fn powerdns() -> PowerDns {
    let dns = PowerDns::start().await.expect("a PowerDNS");
    let sets = json!([
        set("api", "A", 300, "192.0.2.1"),
        set("api", "AAAA", 600, "2001:db8::1"),
        set("api", "HTTPS", 300, "1 . alpn=h2"),
        set("api", "TXT", 300, "\"nobody goes by this\""),
        set("www", "CNAME", 604_800, "blue.example.net."),
        set("geo", "LUA", 60, "A \"pickclosest({'192.0.2.1'})\""),
    ]);
    dns.create_zone("example.test.", sets).await.expect("a zone");
    dns
}

#[tokio::test]
async fn init_reads_powerdns_and_plan_accepts_the_file() {
    let (dns, home) = (powerdns().await, tempfile::tempdir().expect("a directory"));
    let (url, key, server) = (dns.url(), dns.api_key_file().display().to_string(), dns.dns().to_string());
    let mut arguments = vec!["init", "--url", &url, "--api-key-file", &key, "--name-server", &server];
    arguments.extend(["--name", "API.example.test.", "--name", "www.example.test"]);
    let written = call(home.path(), &arguments).await.exits_with(0);
    for message in [
        "Blue's values were read from the provider at ",
        "the sum of its weights is at most 10000",
        "api.example.test/A  192.0.2.1  TTL 300 s",
        "api.example.test/HTTPS (1 . alpn=h2",
        "604800 s",
    ] {
        assert!(written.stdout.contains(message), "{message}: {written:#?}");
    }
    let unfilled = call(home.path(), &["plan", "--requests-only"]).await.exits_with(2);
    assert!(unfilled.stderr.contains("TODO"), "{unfilled:#?}");
    let text = fill_in(home.path(), &["192.0.2.2", "2001:db8::2", "green.example.net"]);
    assert!(text.contains("zone = \"example.test\"") && !text.contains("nobody goes by this"), "{text}");
    let secret = std::fs::read_to_string(dns.api_key_file()).expect("a key");
    assert!(!text.contains(secret.trim()), "{text}");
    let planned = call(home.path(), &["plan", "--requests-only"]).await.exits_with(0);
    assert!(planned.stdout.contains("step 1: 1 % to green"), "{planned:#?}");

    // The same once more is refused, and the file is as it was.
    let again = call(home.path(), &arguments).await.exits_with(2);
    assert!(again.stderr.contains("exists already"), "{again:#?}");
}

#[tokio::test]
async fn the_json_has_source_capabilities_and_remarks() {
    let (dns, home) = (powerdns().await, tempfile::tempdir().expect("a directory"));
    let (url, key) = (dns.url(), dns.api_key_file().display().to_string());
    let arguments =
        ["init", "--url", &url, "--api-key-file", &key, "--name", "geo.example.test", "--format", "json"];
    let message = call(home.path(), &arguments).await.exits_with(0).json();
    assert_eq!(
        (&message["outcome"], &message["source"], &message["zone"]),
        (&json!("written"), &json!("provider"), &json!("example.test"))
    );
    assert_eq!(message["capabilities"]["weights"]["whole"]["max_sum"], 10_000);
    assert_eq!(message["records"][0]["moved"], false);
    let remarks = message["remarks"].to_string();
    assert!(
        remarks.contains("its answers are computed by a Lua program")
            && remarks.contains("no A, AAAA or CNAME"),
        "{message:#}"
    );
}

#[tokio::test]
async fn without_the_provider_init_queries_the_name_servers() {
    let (dns, home) = (powerdns().await, tempfile::tempdir().expect("a directory"));
    let (url, server) = (dns.url(), dns.dns().to_string());
    let key = home.path().join("key");
    std::fs::write(&key, "not-the-key").expect("written");
    let key = key.display().to_string();
    let name = ["--name", "api.example.test", "--name-server", &server];
    let cases: [(&[&str], &str); 4] = [
        (&["--url", &url, "--api-key-file", &key], "the server rejects the API key"),
        (&["--url", "http://127.0.0.1:9", "--api-key-file", &key], "cannot be reached"),
        (&["--url", &url, "--api-key-env", "KF_NO_SUCH_VARIABLE"], "KF_NO_SUCH_VARIABLE"),
        (&[], "--url was not given"),
    ];
    for (flags, why) in cases {
        let arguments: Vec<&str> =
            ["init", "--format", "json"].into_iter().chain(name).chain(flags.iter().copied()).collect();
        let message = call(home.path(), &arguments).await.exits_with(0).json();
        assert_eq!(
            (&message["source"], &message["asked"]),
            (&json!("name_server"), &json!("name_server")),
            "{message:#}"
        );
        assert!(
            message["provider_error"].as_str().is_some_and(|text| text.contains(why)),
            "{why}: {message:#}"
        );
        let text = fill_in(home.path(), &["192.0.2.2", "2001:db8::2"]);
        assert!(text.contains("# The provider could not be read: ") && text.contains(&server), "{text}");
        assert!(text.contains("blue = [\"192.0.2.1\"]") && !text.contains("not-the-key"), "{text}");
        std::fs::remove_file(home.path().join("cutover.toml")).expect("removed");
    }
    // Neither the one nor the other.
    let arguments =
        ["init", "--name", "api.example.test", "--name-server", "127.0.0.1:9", "--format", "json"];
    let message = call(home.path(), &arguments).await.exits_with(0).json();
    assert_eq!((&message["asked"], &message["records"]), (&json!("nobody"), &json!([])), "{message:#}");
}

#[tokio::test]
async fn a_server_without_weights_gets_the_step_of_100_percent() {
    let records = "api 300 IN A 192.0.2.1\napi 300 IN A 192.0.2.3\nwww 60 IN CNAME blue.example.net.";
    let bind = Bind::primary("example.test", records).await.expect("a BIND");
    let home = tempfile::tempdir().expect("a directory");
    let (server, secret) = (bind.address().to_string(), bind.secret_file().display().to_string());
    let mut arguments =
        vec!["init", "--provider", "rfc2136", "--server", &server, "--tsig-secret-file", &secret];
    arguments.extend(["--name", "api.example.test", "--name", "www.example.test", "--name-server", &server]);
    let written = call(home.path(), &arguments).await.exits_with(0);
    assert!(
        written
            .stdout
            .contains("it has no weights and sets only 0 % and 100 %; a concurrent write is refused"),
        "{written:#?}"
    );
    let text = fill_in(home.path(), &["192.0.2.2", "green.example.net"]);
    assert!(text.contains("\"192.0.2.3\"") && text.matches("[[step]]").count() == 1, "{text}");
    let planned = call(home.path(), &["plan", "--requests-only"]).await.exits_with(0);
    assert!(
        planned.stdout.contains("update add www.example.test. 30 CNAME green.example.net."),
        "{planned:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn init_reads_route_53() {
    let fake = FakeRoute53::start("api.example.test", 300, "192.0.2.1").await;
    let home = tempfile::tempdir().expect("a directory");
    let mut arguments =
        vec!["init", "--provider", "route53", "--hosted-zone-id", "Z1", "--endpoint", fake.url()];
    arguments.extend(["--name", "api.example.test"]);
    let written = call(home.path(), &arguments).await.exits_with(0);
    assert!(written.stdout.contains("the sum of its weights is at most 256"), "{written:#?}");
    let text = fill_in(home.path(), &["192.0.2.2"]);
    assert!(!text.contains("s3cr3t") && text.contains("# TTL 300 s"), "{text}");
    call(home.path(), &["plan", "--requests-only"]).await.exits_with(0);
}

#[tokio::test]
async fn init_reads_the_list_of_a_program_or_reports_that_it_has_none() {
    const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dns/stub.py");
    let (zone, home) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let record =
        json!({ "name": "api.example.test", "type": "A", "state": "plain", "side": "blue", "ttl": 300 });
    let state = json!({ "version": 1, "records": [record], "marker": null, "asked": 0 });
    std::fs::write(zone.path().join("state.json"), state.to_string()).expect("written");
    let python = kongferry_harness::tools::python().expect("Python").display().to_string();
    let directory = zone.path().display().to_string();
    let mut arguments = vec!["init", "--provider", "exec", "--command", &python, "--argument", PROGRAM];
    arguments.extend([
        "--argument",
        &directory,
        "--name",
        "api.example.test",
        "--name-server",
        "127.0.0.1:9",
    ]);
    arguments.extend(["--format", "json"]);
    let message = call(home.path(), &arguments).await.exits_with(0).json();
    assert_eq!((&message["source"], &message["asked"]), (&json!("none"), &json!("nobody")));
    assert!(
        message["why_not_the_provider"].as_str().is_some_and(|why| why.contains("cannot list")),
        "{message:#}"
    );
    assert_eq!(message["capabilities"]["min_ttl"], 5, "{message:#}");
    std::fs::remove_file(home.path().join("cutover.toml")).expect("removed");

    let listed = json!({ "zone": "example.test", "records": [
        { "name": "api.example.test", "type": "A", "ttl": 300, "values": ["192.0.2.1"] },
        { "name": "api.example.test", "type": "HTTPS", "ttl": 300, "values": ["1 . alpn=h2"] },
    ] });
    std::fs::write(zone.path().join("list.json"), listed.to_string()).expect("written");
    let message = call(home.path(), &arguments).await.exits_with(0).json();
    assert_eq!(
        (&message["asked"], message["remarks"].as_array().map(Vec::len)),
        (&json!("provider"), Some(1)),
        "{message:#}"
    );
    fill_in(home.path(), &["192.0.2.2"]);
    call(home.path(), &["plan", "--requests-only"]).await.exits_with(0);
}
