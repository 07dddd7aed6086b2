//! A real PowerDNS Authoritative with LUA records and its HTTP API.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kongferry::error::{Error, Kind, Result};
use kongferry::http;
use kongferry::process::{BoundChild, WorkDir};
use serde_json::{Value, json};

use super::{explain, loopback, start, wait_until_it_listens, with_log, write, write_secret};
use crate::context::Context;
use crate::ports;
use crate::tools;

const API_KEY: &str = "kongferry-test-key";

/// A running PowerDNS; it ends, and its data goes, on drop and with this process.
#[derive(Debug)]
pub struct PowerDns {
    // Declared before the directory: dropped first, so the server has ended when its files go.
    _server: BoundChild,
    home: WorkDir,
    dns: u16,
    api: u16,
}

impl PowerDns {
    /// Installs what is missing, starts the server and waits until its API answers. LUA records share one state of Lua:
    /// with `yes` every answer makes a new one, which takes a third of the time of all tests of a cutover.
    pub async fn start() -> Result<Self> {
        PowerDns::start_with("enable-lua-records=shared\n").await
    }

    /// With these settings for LUA records, or without any.
    pub async fn start_with(settings: &str) -> Result<Self> {
        let program = tools::powerdns()?;
        let home = WorkDir::create("kongferry-pdns", false).context(|| "there is no directory".to_owned())?;
        let (dns, api) = (ports::free()?, ports::free()?);
        create_database(home.path())?;
        write(&home.path().join("pdns.conf"), &configuration(home.path(), dns, api, settings))?;
        write_secret(&home.path().join("api-key"), API_KEY)?;
        let mut command = Command::new(program);
        command.arg(format!("--config-dir={}", home.path().display()));
        let server = start(command, home.path())?;
        wait_until_it_listens("PowerDNS", &server, home.path(), &[dns, api]).await?;
        Ok(PowerDns { _server: server, home, dns, api })
    }

    pub fn dns(&self) -> SocketAddr {
        loopback(self.dns)
    }

    pub fn url(&self) -> String {
        format!("http://{}", loopback(self.api))
    }

    /// A file with the key of the API.
    pub fn api_key_file(&self) -> PathBuf {
        self.home.path().join("api-key")
    }

    pub fn log(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Makes a zone with these RRsets, as the API has them.
    pub async fn create_zone(&self, zone: &str, rrsets: Value) -> Result<()> {
        let body = json!({ "name": zone, "kind": "Native", "nameservers": [format!("ns1.{zone}")], "rrsets": rrsets });
        self.call("POST", "/zones", Some(body)).await.map(drop)
    }

    /// Sends anything to the API, behind kongferry's back; `path` begins after the server's id.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Result<Value> {
        let client = http::client(None, Duration::from_secs(10))?;
        let url = format!("{}/api/v1/servers/localhost{path}", self.url());
        let failed = || format!("PowerDNS's API does not answer {method} {path}");
        let request = match (method, body) {
            ("POST", Some(body)) => client.post(url).body(body.to_string()),
            ("PATCH", Some(body)) => client.patch(url).body(body.to_string()),
            ("PUT", Some(body)) => client.put(url).body(body.to_string()),
            _ => client.get(url),
        };
        let silent = |error: Error| with_log(error, self.home.path());
        let response = request.header("X-API-Key", API_KEY).send().await.context(failed).map_err(silent)?;
        let status = response.status();
        let text = response.text().await.context(failed).map_err(silent)?;
        if !status.is_success() {
            let error = explain(&format!("PowerDNS refuses {method} {path} with {status}"), self.home.path());
            return Err(error.detail(text));
        }
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }
}

fn create_database(home: &Path) -> Result<()> {
    let schema = tools::powerdns_schema();
    let command = format!(".read {}", schema.display());
    let output = Command::new("sqlite3").arg(home.join("pdns.sqlite3")).arg(command).output();
    let output = output.context(|| "sqlite3 cannot be run".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::new(Kind::Io, format!("sqlite3 cannot make PowerDNS's tables from {}", schema.display()))
        .detail(said))
}

/// It asks nobody on the internet: `security-poll-suffix` is empty.
fn configuration(home: &Path, dns: u16, api: u16, settings: &str) -> String {
    let home = home.display();
    format!(
        "launch=gsqlite3\ngsqlite3-database={home}/pdns.sqlite3\nlocal-address=127.0.0.1\nlocal-port={dns}\n\
         daemon=no\nguardian=no\nsocket-dir={home}\nsecurity-poll-suffix=\nwebserver=yes\n\
         webserver-address=127.0.0.1\nwebserver-port={api}\nwebserver-allow-from=127.0.0.1/32\napi=yes\n\
         api-key={API_KEY}\n{settings}"
    )
}
