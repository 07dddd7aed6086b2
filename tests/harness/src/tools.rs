//! Third-party programs that tests run: finding and installing them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use kongferry::error::{Error, Kind, Result};
use nix::unistd::geteuid;

use crate::context::Context;

/// Cassandra 5.0 runs on 11 and 17; the options that we start it with are those of 17.
const JAVA_MAJOR: &str = "17";

/// How long to wait for another apt-get process, in seconds.
const APT_PATIENCE: &str = "DPkg::Lock::Timeout=600";

/// The program `java` of a Java 17, installed with apt-get if there is none and we may.
pub(crate) fn java() -> Result<PathBuf> {
    find_or_install("Java 17", "openjdk-17-jre-headless", find_java, may_install())
}

/// The program `mvn`, installed with apt-get if there is none and we may.
pub(crate) fn maven() -> Result<PathBuf> {
    find_or_install("Maven", "maven", || on_path("mvn"), may_install())
}

/// The program `name` of Debian's `package`, installed with apt-get if it is missing and we may.
///
/// # Errors
/// If it is missing and cannot be installed; the remedy has the command.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    find_or_install(name, package, || on_path(name), may_install())
}

/// The program `pdns_server` with its SQLite backend.
pub(crate) fn powerdns() -> Result<PathBuf> {
    let packages = "pdns-server pdns-backend-sqlite3 sqlite3";
    let complete =
        || on_path("pdns_server").filter(|_| on_path("sqlite3").is_some() && powerdns_schema().is_file());
    find_or_install("PowerDNS", packages, complete, may_install())
}

/// The tables of PowerDNS's SQLite backend.
pub(crate) fn powerdns_schema() -> PathBuf {
    PathBuf::from("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
}

/// The program `named`.
pub(crate) fn named() -> Result<PathBuf> {
    find_or_install("BIND", "bind9", || on_path("named"), may_install())
}

/// The program `prometheus`. Debian's package starts a service of its own, which is of no use to us.
pub(crate) fn prometheus() -> Result<PathBuf> {
    find_or_install("Prometheus", "prometheus", || on_path("prometheus"), may_install())
}

/// The program `nsupdate`, with which operators send signed updates.
pub fn nsupdate() -> Result<PathBuf> {
    find_or_install("nsupdate", "bind9-dnsutils", || on_path("nsupdate"), may_install())
}

/// The program `curl`, with which operators call APIs.
pub fn curl() -> Result<PathBuf> {
    find_or_install("curl", "curl", || on_path("curl"), may_install())
}

/// The program `python3` with the module `venv`.
pub fn python() -> Result<PathBuf> {
    let complete =
        || on_path("python3").filter(|python| runs(Command::new(python).args(["-c", "import ensurepip"])));
    find_or_install("Python 3 with venv", "python3-venv", complete, may_install())
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// `$KONGFERRY_HARNESS_CACHE`, or `target/harness` of this workspace.
pub(crate) fn cache_directory() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/harness");
    std::env::var_os("KONGFERRY_HARNESS_CACHE").map_or_else(default, PathBuf::from)
}

fn may_install() -> bool {
    geteuid().is_root() && on_path("apt-get").is_some()
}

fn find_or_install(
    what: &str,
    package: &str,
    find: impl Fn() -> Option<PathBuf>,
    may_install: bool,
) -> Result<PathBuf> {
    if let Some(found) = find() {
        return Ok(found);
    }
    let command = format!("apt-get install -y {package}");
    let missing = || {
        Error::new(Kind::Io, format!("{what} is not installed, and real servers are started with it"))
            .remedy(format!("run `{command}` as root, or install {what} another way"))
    };
    if !may_install {
        return Err(missing());
    }
    // One at a time: apt-get refuses to work beside another, and the first may have brought what the next one wants.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = find() {
        return Ok(found);
    }
    eprintln!("{what} is missing; running `{command}`");
    let install: Vec<&str> =
        ["install", "-y", "--no-install-recommends"].into_iter().chain(package.split(' ')).collect();
    apt_get(&install)
        .or_else(|_| apt_get(&["update"]).and_then(|()| apt_get(&install)))
        .map_err(|error| missing().source(error))?;
    find().ok_or_else(missing)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-o", APT_PATIENCE])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .context(|| "apt-get cannot be run".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::new(Kind::Io, format!("apt-get {} failed", arguments.join(" "))).detail(text))
}

fn find_java() -> Option<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    home.into_iter().chain(on_path("java")).chain(installed_javas()).find(|java| is_wanted_version(java))
}

fn installed_javas() -> Vec<PathBuf> {
    let entries = Path::new("/usr/lib/jvm").read_dir().into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().contains(JAVA_MAJOR))
        .map(|entry| entry.path().join("bin/java"))
        .collect()
}

/// `java -version` prints `openjdk version "17.0.15" 2025-04-15` on stderr.
fn is_wanted_version(java: &Path) -> bool {
    let Ok(output) = Command::new(java).arg("-version").output() else { return false };
    let text = String::from_utf8_lossy(&output.stderr);
    text.split('"').nth(1).and_then(|version| version.split('.').next()) == Some(JAVA_MAJOR)
}

fn on_path(program: &str) -> Option<PathBuf> {
    // Servers lie where the path of an ordinary user does not lead.
    let path = std::env::var_os("PATH")?;
    let servers = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(servers).map(|dir| dir.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_that_cannot_be_installed_is_named_with_the_command() {
        let error = find_or_install("A tool", "its-package", || None, false).unwrap_err();
        assert!(error.message().contains("A tool is not installed"));
        let remedy = error.remedy_text().unwrap();
        assert!(remedy.contains("apt-get install -y its-package"), "{remedy}");
    }
}
