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

/// A short cutover; tests put gates behind it, or other things before `[[step]]`.
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

/// No databases, no Prometheus, no gates, no Admin API: for tests that need none.
pub const ON_TRUST: &str = r#"unproven = ["databases", "metrics", "gates", "nodes"]"#;

/// What one run of the program came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// Its result as JSON, which matches its schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        let result = serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"));
        crate::schemas::check(&result);
        result
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Ran {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        Ran {
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

    /// The same with what stands in `[provider]`.
    pub fn configure_with(&self, directory: &Path, provider: &str, more: &str) {
        // Most tests are about something else than what could not be proven.
        let trust = if more.contains("[preflight]") {
            String::new()
        } else {
            format!("preflight = {{ {ON_TRUST} }}")
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

    pub async fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments)).await
    }

    /// Starts it and leaves it running.
    pub fn spawn(&self, arguments: &[&str]) -> Running {
        self.spawn_command(self.command(arguments))
    }

    /// Starts a command that was put together otherwise.
    pub fn spawn_command(&self, mut command: Command) -> Running {
        Running(Some(command.spawn().expect("the program")))
    }

    /// `cutover status` as JSON.
    pub async fn status(&self) -> Value {
        self.run(&["status", "--format", "json"]).await.json()
    }

    /// Waits until the status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let status = self.run(&["status", "--format", "json"]).await;
            let seen: Value = serde_json::from_str(&status.stdout).unwrap_or_default();
            if wanted(&seen) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{what} never came: {status:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks the name server itself, past everything of ours but the wire.
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

    /// Green's share of so many answers.
    pub async fn measured(&self, queries: u32) -> f64 {
        self.survey(queries).await.fraction().expect("answers")
    }

    /// What stands at PowerDNS: the contents of all records of the name, with their type.
    pub async fn records(&self) -> Vec<String> {
        let zone = self.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        let sets = zone["rrsets"].as_array().cloned().unwrap_or_default();
        let ours = sets.into_iter().filter(|set| set["name"] == format!("{NAME}."));
        ours.map(|set| format!("{} {} {}", set["type"], set["ttl"], set["records"][0]["content"])).collect()
    }

    /// The marker that stands at PowerDNS.
    pub async fn marker(&self) -> Option<Marker> {
        let zone = self.dns.call("GET", "/zones/example.test.", None).await.expect("a zone");
        let text = zone.to_string();
        let begin = text.find("kongferry=1")?;
        let end = text[begin..].find('"')? + begin;
        Marker::parse(&text[begin..end])
    }
}

/// Runs a command to its end.
pub async fn ran(mut command: Command) -> Ran {
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("a thread")
        .expect("the program")
        .into()
}

/// A program that runs; it is killed on drop.
pub struct Running(Option<Child>);

impl Running {
    pub async fn end(mut self) -> Ran {
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

impl Drop for Running {
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

/// Whether a share that was measured by so many queries may be the one that was asked for.
#[track_caller]
pub fn assert_share(measured: f64, share: Share, queries: u32) {
    let (p, n) = (share.fraction(), f64::from(queries));
    let deviation = (p * (1.0 - p) / n).sqrt();
    assert!((measured - p).abs() <= 4.5 * deviation, "{measured} of {queries} queries, asked for {share}");
}
