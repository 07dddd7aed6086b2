//! Real name servers on loopback: PowerDNS with its API, BIND as a primary that takes updates, as a secondary and as a
//! caching resolver; and moto, which speaks Route 53's wire format.

mod bind;
mod moto;
mod powerdns;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kongferry::error::{Error, Kind, Result};
use kongferry::process::BoundChild;
use nix::sys::signal::Signal;

use crate::context::Context;

pub use bind::{Bind, Forwarder};
pub use moto::Moto;
pub use powerdns::PowerDns;

const START_LIMIT: Duration = Duration::from_secs(60);

/// Starts a server whose output goes to `home/log`.
pub(crate) fn start(mut command: Command, home: &Path) -> Result<BoundChild> {
    let name = command.get_program().to_string_lossy().into_owned();
    let log = OpenOptions::new().create(true).append(true).open(home.join("log"));
    let log: File = log.context(|| format!("cannot write the log of {name}"))?;
    let copy = log.try_clone().context(|| format!("cannot write the log of {name}"))?;
    command.stdin(Stdio::null()).stdout(copy).stderr(log);
    BoundChild::spawn(command, Signal::SIGKILL).context(|| format!("{name} cannot be run"))
}

/// Waits until somebody listens on all of these TCP ports.
pub(crate) async fn wait_until_it_listens(
    what: &str,
    server: &BoundChild,
    home: &Path,
    ports: &[u16],
) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    let open = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok();
    loop {
        let all = ports.iter().all(open);
        if server.exited().is_some() || (!all && Instant::now() > deadline) {
            return Err(explain(&format!("{what} does not start"), home));
        }
        if all {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An error with the end of a server's log.
fn explain(message: &str, home: &Path) -> Error {
    with_log(Error::new(Kind::Io, message), home)
}

/// The same of an error that is there already.
fn with_log(error: Error, home: &Path) -> Error {
    let bytes = fs::read(home.join("log")).unwrap_or_default();
    let log = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    let last = lines[lines.len().saturating_sub(15)..].iter();
    last.fold(error, |error, line| error.detail(*line))
}

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A file that nobody else may read, as kongferry wants it of secrets.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.context(|| format!("cannot write {}", path.display()))
}

pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}
