//! A PowerDNS with a record, a `cutover.toml` for it, and the program in that directory.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kongferry::dns::query::{self, NameServer, QueryConfig, ShareMeasurement};
use kongferry::dns::{Marker, Record, Share};
use kongferry_harness::dns::PowerDns;
use serde_json::{Value, json};

pub const NAME: &str = "api.example.test";

/// A short cutover; tests append gates and other tables.
pub const STEPS: &str = r#"
[[step]]
share = 1
bake = "1s"
[[step]]
share = 10
bake = "1s"
[[step]]
share = 100
bake = "1s"
"#;

/// The same steps with a bake time that no test waits for.
pub fn slow_steps() -> String {
    STEPS.replace("bake = \"1s\"", "bake = \"10m\"")
}

/// No databases, no Prometheus, no gates, no Admin API: for tests that need none.
pub const ALL_UNPROVEN: &str = r#"unproven = ["databases", "metrics", "gates", "nodes"]"#;

/// The output of one command.
#[derive(Debug)]
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// Its result as JSON, which matches its schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        let result = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        crate::schemas::check(&result);
        result
    }

    #[track_caller]
    pub fn exits_with(self, code: i32) -> CommandOutput {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl From<Output> for CommandOutput {
    fn from(output: Output) -> CommandOutput {
        CommandOutput {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// The servers and the directory of one test.
pub struct Site {
    pub dns: Arc<PowerDns>,
    pub home: tempfile::TempDir,
}

impl Site {
    /// An A record of blue with a TTL of 2 s, and a file with these steps and gates.
    pub async fn new(more: &str) -> Site {
        let dns = Arc::new(PowerDns::start().await.expect("a PowerDNS"));
        let a = |name: &str, ttl: u32, address: &str| json!({ "name": format!("{name}."), "type": "A", "ttl": ttl, "records": [{ "content": address, "disabled": false }] });
        let rrsets = json!([a(NAME, 2, "192.0.2.1"), a("ns1.example.test", 60, "127.0.0.1")]);
        dns.create_zone("example.test.", rrsets).await.expect("a zone");
        let site = Site { dns, home: tempfile::tempdir().expect("a directory") };
        site.configure(site.home.path(), more);
        site
    }

    /// Writes a `cutover.toml` into a directory.
    pub fn configure(&self, directory: &Path, more: &str) {
        let provider = format!(
            "kind = \"powerdns\", url = \"{}\", api_key = {{ file = \"{}\" }}",
            self.dns.url(),
            self.dns.api_key_file().display()
        );
        self.configure_with(directory, &provider, more);
    }

    /// The same with another `[provider]`.
    pub fn configure_with(&self, directory: &Path, provider: &str, more: &str) {
        // Most tests are about something else than what could not be proven.
        let trust = if more.contains("[preflight]") {
            String::new()
        } else {
            format!("preflight = {{ {ALL_UNPROVEN} }}")
        };
        let text = format!(
            r#"zone = "example.test"
ttl = 1
resolver_floor = "0s"
check_every = "500ms"
drain = {{ time = "1s" }}
query = {{ name_servers = ["{}"], count = 2000 }}
provider = {{ {provider} }}
{trust}

[[record]]
name = "{NAME}"
type = "A"
blue = ["192.0.2.1"]
green = ["192.0.2.2"]
{more}"#,
            self.dns.dns()
        );
        std::fs::write(directory.join("cutover.toml"), text).expect("written");
    }

    /// `kongferry cutover …` in the test's directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_in(self.home.path(), arguments)
    }

    pub fn command_in(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = self.program_in(directory);
        command.arg("cutover").args(arguments);
        command
    }

    /// `kongferry …`, any command of it, in the test's directory.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.program_in(self.home.path());
        command.args(arguments);
        command
    }

    fn program_in(&self, directory: &Path) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("kongferry"));
        for (name, _) in std::env::vars() {
            if ["KONG", "PG", "XDG"].iter().any(|start| name.starts_with(start)) {
                command.env_remove(name);
            }
        }
        command.current_dir(directory).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> CommandOutput {
        run_command(self.command(arguments)).await
    }

    /// Starts it and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> RunningCommand {
        self.spawn_command(self.command(arguments))
    }

    /// The same for any command.
    pub fn spawn_command(&self, mut command: Command) -> RunningCommand {
        RunningCommand(Some(command.spawn().expect("the program")))
    }

    /// `cutover status` as JSON.
    pub async fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).await.json()
    }

    /// Waits for a status; `what` describes it.
    pub async fn until(&self, what: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let status = self.run(&["status", "--format", "json"]).await;
            let seen: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            if is_expected(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what} never came: {status:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Queries the name server directly.
    pub async fn survey(&self, queries: u32) -> ShareMeasurement {
        let server = NameServer { name: "ns1".to_owned(), address: self.dns.dns() };
        let record = Record::new(
            NAME.parse().expect("a name"),
            kongferry::dns::RecordType::A,
            &["192.0.2.1".to_owned()],
            &["192.0.2.2".to_owned()],
        );
        let config = QueryConfig { count: queries, ..QueryConfig::default() };
        let surveys = query::measure(&[server], &record.expect("a record"), &config).await;
        surveys.into_iter().next().expect("one server")
    }

    /// Green's fraction of the answers.
    pub async fn measured(&self, queries: u32) -> f64 {
        self.survey(queries).await.fraction().expect("answers")
    }

    /// The records of the name at PowerDNS: type, TTL and content.
    pub async fn records(&self) -> Vec<String> {
        let zone = self.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        let sets = zone["rrsets"].as_array().cloned().unwrap_or_default();
        let ours = sets.into_iter().filter(|set| set["name"] == format!("{NAME}."));
        ours.map(|set| format!("{} {} {}", set["type"], set["ttl"], set["records"][0]["content"])).collect()
    }

    /// The marker at PowerDNS.
    pub async fn marker(&self) -> Option<Marker> {
        let zone = self.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        let text = zone.to_string();
        let begin = text.find("kongferry=1")?;
        let end = text[begin..].find('"')? + begin;
        Marker::parse(&text[begin..end])
    }
}

/// Runs a command to its end.
pub async fn run_command(mut command: Command) -> CommandOutput {
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("a thread")
        .expect("the program")
        .into()
}

/// A program that runs; it is killed on drop.
pub struct RunningCommand(Option<Child>);

impl RunningCommand {
    pub async fn end(mut self) -> CommandOutput {
        let child = self.0.take().expect("running");
        tokio::task::spawn_blocking(move || child.wait_with_output())
            .await
            .expect("a thread")
            .expect("an end")
            .into()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().expect("killed");
            child.wait().expect("gone");
        }
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let id = self.0.as_ref().map(Child::id).and_then(|id| i32::try_from(id).ok()).expect("running");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal).expect("sent");
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Whether a status is at this share.
pub fn at_share(percent: u16) -> impl Fn(&Value) -> bool {
    move |status| status["share"]["weight"] == f64::from(percent)
}

/// Whether this share is being watched.
pub fn baking(percent: u16) -> impl Fn(&Value) -> bool {
    move |status| status["stage"] == "baking" && status["goal"] == "step" && at_share(percent)(status)
}

/// Fails if the measured share is improbable for the provider's.
#[track_caller]
pub fn assert_share(measured: f64, share: Share, queries: u32) {
    let (p, n) = (share.fraction(), f64::from(queries));
    let deviation = (p * (1.0 - p) / n).sqrt();
    assert!(
        (measured - p).abs() <= 4.5 * deviation,
        "{measured} of {queries} queries, the provider has {share}"
    );
}

/// The change that sends a tenth to green, as another PowerDNS client writes it.
pub fn manual_split() -> Value {
    let lua = "A \"pickwrandom({ {9,'192.0.2.1'}, {1,'192.0.2.2'} })\"";
    let set = |rtype: &str, change: &str, records: Value| json!({ "name": format!("{NAME}."), "type": rtype, "ttl": 2, "changetype": change, "records": records });
    json!({ "rrsets": [
        set("A", "DELETE", json!([])),
        set("LUA", "REPLACE", json!([{ "content": lua, "disabled": false }])),
    ] })
}
