//! The same of the cutover: keys of the provider, tokens in the addresses of hooks and chats, passwords of both
//! databases. Every command at its most verbose, in text and in JSON; its journal and its files too.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kongferry_harness::dns::{Bind, PowerDns};
use kongferry_harness::lab;
use kongferry_harness::postgres::PASSWORD;
use kongferry_harness::route53::FakeRoute53;
use serde_json::json;

use super::closed_port;
use super::secrets::{BLUE_PASSWORD, assert_silent, files, watch};

const NAME: &str = "api.example.test";
const WRONG_KEY: &str = "wrong-key-of-no-zone";
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const AWS_TOKEN: &str = "session-token-FwoGZXIvYXdzEBYaD";
const PROMETHEUS_TOKEN: &str = "prometheus-token-8c1f2a";
const ADMIN_TOKEN: &str = "kong-admin-token-77b0d3";
const CHAT_TOKEN: &str = "T0000/B0000/chat-token-XXXXXXXX";
const HOOK_TOKEN: &str = "hook-token-5e884898da28";
const HEADER_TOKEN: &str = "Bearer-header-token-2c70e12b";
const INLINE_TOKEN: &str = "inline-token-9f86d081884c";
const PROGRAM_TOKEN: &str = "program-token-4fc82b26aecb";

/// Nothing but the name server is there to prove anything.
const ON_TRUST: &str = r#"preflight = { unproven = ["databases", "metrics", "gates", "nodes"] }"#;

/// A directory, where its name server is, and every secret that it is called with.
struct StartContext {
    folder: tempfile::TempDir,
    name_server: String,
    secrets: BTreeSet<String>,
    json: bool,
}

impl StartContext {
    fn new(name_server: String, json: bool, more: &[&str]) -> StartContext {
        let all = [
            WRONG_KEY,
            AWS_SECRET,
            AWS_TOKEN,
            PROMETHEUS_TOKEN,
            ADMIN_TOKEN,
            CHAT_TOKEN,
            HOOK_TOKEN,
            HEADER_TOKEN,
            INLINE_TOKEN,
            PROGRAM_TOKEN,
            BLUE_PASSWORD,
            PASSWORD,
        ];
        let secrets = all.iter().chain(more).map(|&one| one.to_owned()).collect();
        StartContext { folder: tempfile::tempdir().expect("a folder"), name_server, secrets, json }
    }

    fn write(&self, provider: &str, steps: &str, more: &str) {
        let hook = self.folder.path().join("hook-address");
        std::fs::write(&hook, format!("http://127.0.0.1:{}/{HOOK_TOKEN}", closed_port())).expect("a file");
        let text = format!(
            r#"zone = "example.test"
ttl = 1
resolver_floor = "0s"
check_every = "200ms"
settle_limit = "3s"
drain = {{ time = "200ms" }}
query = {{ name_servers = ["{name_server}"], count = 200 }}
provider = {{ {provider} }}
{trust}

[[record]]
name = "{NAME}"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]
{steps}
[hooks]
event = {{ url_file = "{hook}", headers = {{ Authorization = "{HEADER_TOKEN}" }} }}
rollback = {{ url = "http://127.0.0.1:{closed}/x?token={INLINE_TOKEN}" }}
[[notify]]
format = "slack"
url_env = "CHAT"
{more}"#,
            name_server = self.name_server,
            trust = if more.contains("[preflight]") { "" } else { ON_TRUST },
            hook = hook.display(),
            closed = closed_port(),
        );
        std::fs::write(self.folder.path().join("cutover.toml"), text).expect("a file");
    }

    /// Calls the program; what it says must hold no secret, and come to this.
    async fn call(&self, arguments: &[&str], code: i32) -> String {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
        command.env_clear().current_dir(self.folder.path()).arg("cutover").args(arguments).arg("-vv");
        if self.json {
            command.args(["--format", "json", "--log-format", "json"]);
        }
        command.stdin(Stdio::null()).envs([
            ("KONGFERRY_LOG", "trace"),
            ("KONGFERRY_BLUE_PASSWORD", BLUE_PASSWORD),
            ("KONGFERRY_GREEN_PASSWORD", PASSWORD),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
            ("AWS_SESSION_TOKEN", AWS_TOKEN),
            ("PROMETHEUS_TOKEN", PROMETHEUS_TOKEN),
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("PROGRAM_TOKEN", PROGRAM_TOKEN),
            ("WRONG_KEY", WRONG_KEY),
            ("CHAT", &format!("http://127.0.0.1:{}/services/{CHAT_TOKEN}", closed_port())),
            ("RUST_BACKTRACE", "full"),
            ("PATH", &std::env::var("PATH").unwrap_or_default()),
            ("HOME", "/nonexistent"),
        ]);
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("a thread").expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        assert_silent(&self.secrets, &format!("{arguments:?}"), &said);
        let said = String::from_utf8_lossy(&said).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }

    /// What was left in the folder: the journal, and what programs wrote; not the file that holds an address.
    fn files(&self) {
        let all = files(self.folder.path());
        assert!(all.iter().any(|(path, _)| path.ends_with("journal.jsonl")), "no journal");
        let own = ["hook-address", "cutover.toml"];
        for (path, content) in all.iter().filter(|(path, _)| !own.iter().any(|name| path.ends_with(name))) {
            assert_silent(&self.secrets, &path.display().to_string(), content);
        }
    }
}

const STEPS: &str = "[[step]]\nshare = 50\nbake = \"200ms\"\n[[step]]\nshare = 100\nbake = \"200ms\"\n";

/// Reads command lines while `work` is done.
async fn unseen(secrets: BTreeSet<String>, work: impl Future<Output = ()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let watching = watch(secrets, stop.clone());
    work.await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(watching.join().expect("the watch"), BTreeSet::new(), "secrets in the process list");
}

async fn powerdns_prints_no_secret(json: bool) {
    let dns = PowerDns::start().await.expect("a PowerDNS");
    let a = |name: &str, address: &str| json!({ "name": format!("{name}."), "type": "A", "ttl": 2, "records": [{ "content": address, "disabled": false }] });
    dns.create_zone("example.test.", json!([a(NAME, "192.0.2.1"), a("ns1.example.test", "127.0.0.1")]))
        .await
        .expect("a zone");
    let key = std::fs::read_to_string(dns.api_key_file()).expect("the key");
    let scene = StartContext::new(dns.dns().to_string(), json, &[key.trim()]);
    let provider = |key: &str| format!("kind = \"powerdns\", url = \"{}\", api_key = {{ {key} }}", dns.url());
    let good = provider(&format!("file = \"{}\"", dns.api_key_file().display()));
    unseen(scene.secrets.clone(), async {
        let server = dns.dns().to_string();
        scene.call(&["init", "--name", NAME, "--name-server", &server], 0).await;
        scene.write(&good, STEPS, "");
        scene.call(&["plan"], 0).await;
        let said = scene.call(&["start", "--yes", "--no-wait"], 0).await;
        assert!(said.contains("A notification was not delivered"), "{said}");
        for arguments in [&["status"][..], &["pause"]] {
            scene.call(arguments, if arguments[0] == "pause" { 4 } else { 0 }).await;
        }
        scene.call(&["unlock"], 0).await;
        scene.call(&["undo", "--no-wait"], 3).await;
        scene.call(&["rollback", "--reason", "a drill"], 3).await;
        scene.call(&["finish"], 0).await;

        // Everything that goes wrong says why, and no more.
        scene.write(&provider("env = \"WRONG_KEY\""), STEPS, "");
        for arguments in [&["status"][..], &["plan"], &["start", "--yes"], &["rollback"]] {
            scene.call(arguments, 1).await;
        }
        let closed = closed_port();
        let more = format!(
            "[prometheus]\nurl = \"http://127.0.0.1:{closed}\"\ntoken_env = \"PROMETHEUS_TOKEN\"\n[[gate]]\nkind = \"kong-errors\"\n\
             [[gate]]\nname = \"login\"\nkind = \"http\"\nurl = \"http://127.0.0.1:{closed}/?token={INLINE_TOKEN}\"\n\
             [preflight]\ngreen_admin = \"http://127.0.0.1:{closed}\"\ngreen_admin_token_env = \"ADMIN_TOKEN\"\n"
        );
        scene.write(&good, STEPS, &more);
        scene.call(&["start", "--yes"], 4).await;
        let more = format!("[hooks.pre_step]\nurl = \"http://127.0.0.1:{closed}/?token={INLINE_TOKEN}\"\n");
        scene.write(&good, STEPS, &more);
        let said = scene.call(&["start", "--yes", "--no-wait"], 3).await;
        assert!(said.contains("pre_step did not answer"), "{said}");
        scene.call(&["rollback"], 3).await;
    })
    .await;
    scene.files();
}

#[tokio::test(flavor = "multi_thread")]
async fn cutover_on_powerdns_prints_no_secret_in_text() {
    powerdns_prints_no_secret(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cutover_on_powerdns_prints_no_secret_in_json() {
    powerdns_prints_no_secret(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cutover_prints_no_tsig_key() {
    for json in [false, true] {
        let bind = Bind::primary("example.test.", "api 2 IN A 192.0.2.1\n").await.expect("a BIND");
        let key = std::fs::read_to_string(bind.secret_file()).expect("the key");
        let scene = StartContext::new(bind.address().to_string(), json, &[key.trim()]);
        let provider = |file: &Path| {
            format!(
                "kind = \"rfc2136\", server = \"{}\", tsig = {{ name = \"{}\", secret = {{ file = \"{}\" }} }}",
                bind.address(),
                Bind::KEY_NAME,
                file.display()
            )
        };
        let steps = "[[step]]\nshare = 100\nbake = \"200ms\"\n";
        unseen(scene.secrets.clone(), async {
            scene.write(&provider(&bind.secret_file()), steps, "");
            scene.call(&["plan"], 0).await;
            scene.call(&["start", "--yes", "--no-wait"], 0).await;
            scene.call(&["rollback"], 3).await;
            // Another key of the same name.
            let wrong = scene.folder.path().join("hook-address");
            std::fs::write(&wrong, "d3Jvbmcga2V5IG9mIG5vYm9keSwgMzIgYnl0ZXMhISE=").expect("a file");
            let text = std::fs::read_to_string(scene.folder.path().join("cutover.toml")).expect("a file");
            let text = text.replace(&bind.secret_file().display().to_string(), &wrong.display().to_string());
            std::fs::write(scene.folder.path().join("cutover.toml"), text).expect("a file");
            scene.call(&["finish"], 4).await;
        })
        .await;
        scene.files();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cutover_prints_no_aws_key_and_no_exec_token() {
    for json in [false, true] {
        let fake = FakeRoute53::start(NAME, 2, "192.0.2.1").await;
        // Nothing answers there: it pauses in settling, which is reported as well.
        let scene = StartContext::new(format!("127.0.0.1:{}", closed_port()), json, &[]);
        let route53 = format!(
            "kind = \"route53\", hosted_zone_id = \"Z1\", endpoint = \"{}\", session_token = {{ env = \"AWS_SESSION_TOKEN\" }}",
            fake.url()
        );
        unseen(scene.secrets.clone(), async {
            scene.write(&route53, STEPS, "");
            scene.call(&["plan", "--requests-only"], 0).await;
            scene.call(&["start", "--yes"], 4).await;
            scene.call(&["status"], 0).await;
            let program = "kind = \"exec\", command = [\"sh\", \"-c\", \"test -n $PROGRAM_TOKEN; echo no >&2; exit 1\"], pass_env = [\"PROGRAM_TOKEN\"]";
            scene.write(program, STEPS, "");
            scene.call(&["plan"], 1).await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cutover_prints_no_database_password() {
    let blue = lab().secured_cassandra().await.expect("a secured Cassandra");
    let database = lab().secured_postgres().await.expect("a secured PostgreSQL");
    let dns = PowerDns::start().await.expect("a PowerDNS");
    let a = |name: &str, address: &str| json!({ "name": format!("{name}."), "type": "A", "ttl": 2, "records": [{ "content": address, "disabled": false }] });
    dns.create_zone("example.test.", json!([a(NAME, "192.0.2.1")])).await.expect("a zone");
    for json in [false, true] {
        let scene = StartContext::new(dns.dns().to_string(), json, &[]);
        let key = dns.api_key_file().display().to_string();
        scene.write(
            &format!("kind = \"powerdns\", url = \"{}\", api_key = {{ file = \"{key}\" }}", dns.url()),
            STEPS,
            "",
        );
        // Either the passwords are wrong there, or the keyspace is missing: the reason is reported.
        let blue = format!("cassandra://cassandra@{}/nowhere?tls=require", blue.contact_point);
        let green = format!("{}?sslmode=require", database.database("postgres").url());
        unseen(scene.secrets.clone(), async {
            let said = scene.call(&["plan", "--blue", &blue, "--green", &green], 4).await;
            assert!(said.contains("cannot be compared"), "{said}");
        })
        .await;
    }
}
