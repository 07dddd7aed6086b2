//! moto's server: Route 53's wire format, without Route 53's rules.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use kongferry::error::{Error, Kind, Result};
use kongferry::http;
use kongferry::process::{BoundChild, WorkDir};

use super::{loopback, start, wait_until_it_listens};
use crate::context::Context;
use crate::ports;
use crate::tools;

const VERSION: &str = "5.2.5";

/// A running moto; it ends on drop and with this process.
#[derive(Debug)]
pub struct Moto {
    _server: BoundChild,
    _home: WorkDir,
    port: u16,
}

impl Moto {
    /// Installs moto into the harness's cache, once, starts it and waits until it listens.
    pub async fn start() -> Result<Self> {
        let python = tokio::task::spawn_blocking(environment);
        let python = python.await.context(|| "a thread of the harness ended early".to_owned())??;
        let home = WorkDir::create("kongferry-moto", false).context(|| "there is no directory".to_owned())?;
        let port = ports::free()?;
        let mut command = Command::new(python.join("bin/moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).current_dir(home.path());
        let server = start(command, home.path())?;
        wait_until_it_listens("moto", &server, home.path(), &[port]).await?;
        Ok(Moto { _server: server, _home: home, port })
    }

    pub fn url(&self) -> String {
        format!("http://{}", loopback(self.port))
    }

    /// Makes a hosted zone and returns its id.
    pub async fn create_zone(&self, zone: &str) -> Result<String> {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <Name>{zone}</Name><CallerReference>test</CallerReference></CreateHostedZoneRequest>"
        );
        let text = self.post("/2013-04-01/hostedzone", body).await?;
        let id = text.split("<Id>/hostedzone/").nth(1).and_then(|rest| rest.split('<').next());
        id.map(str::to_owned).ok_or_else(|| Error::new(Kind::Io, "moto made no hosted zone").detail(text))
    }

    pub async fn post(&self, path: &str, body: String) -> Result<String> {
        self.call(path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Result<String> {
        self.call(path, None).await
    }

    async fn call(&self, path: &str, body: Option<String>) -> Result<String> {
        let failed = || format!("moto does not answer {path}");
        let client = http::client(None, Duration::from_secs(20))?;
        let url = format!("{}{path}", self.url());
        let request = match body {
            Some(body) => client.post(url).body(body),
            None => client.get(url),
        };
        // It knows the service by the scope of the signature, which it does not check.
        let scope = "AWS4-HMAC-SHA256 Credential=test/20261124/us-east-1/route53/aws4_request, \
                     SignedHeaders=host, Signature=0";
        let response = request.header("authorization", scope).send().await.context(failed)?;
        response.text().await.context(failed)
    }
}

impl Moto {
    /// A Python that has AWS's own library: moto needs it too.
    pub fn python_with_boto3() -> Result<PathBuf> {
        Ok(environment()?.join("bin/python"))
    }
}

/// The virtual environment, complete when it has its final name.
fn environment() -> Result<PathBuf> {
    let cache = tools::cache_directory();
    let wanted = cache.join(format!("moto-{VERSION}"));
    let in_cache = || format!("cannot write to {}", cache.display());
    fs::create_dir_all(&cache).context(in_cache)?;
    let lock = File::create(cache.join("moto.lock")).context(in_cache)?;
    lock.lock().context(in_cache)?;
    if wanted.join("complete").is_file() {
        return Ok(wanted);
    }
    // Scripts of an environment know its path, so it cannot be made elsewhere and renamed.
    let _ = fs::remove_dir_all(&wanted);
    run(
        Command::new(tools::python()?).args(["-m", "venv"]).arg(&wanted),
        "python cannot make an environment",
    )?;
    let package = format!("moto[server]=={VERSION}");
    let mut pip = Command::new(wanted.join("bin/python"));
    run(
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", &package]),
        "pip cannot install moto",
    )?;
    fs::write(wanted.join("complete"), VERSION).context(in_cache)?;
    Ok(wanted)
}

fn run(command: &mut Command, failure: &str) -> Result<()> {
    let output = command.output().context(|| failure.to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::new(Kind::Io, failure)
        .detail(said)
        .remedy("check that Python's package index can be reached from here"))
}
