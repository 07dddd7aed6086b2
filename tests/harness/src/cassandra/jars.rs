//! Cassandra's jar files from Maven Central, fetched once and kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use kongferry::error::{Error, Kind, Result};

use crate::context::Context;
use crate::tools;

pub const VERSION: &str = "5.0.4";

/// The directory with Cassandra and all it depends on. Blocks while Maven works; a second process that needs the
/// same waits for the first.
pub(super) fn directory() -> Result<PathBuf> {
    let cache = tools::cache_directory();
    let jars = cache.join(format!("cassandra-{VERSION}"));
    if jars.is_dir() {
        return Ok(jars);
    }
    let in_cache = || format!("cannot write to {}", cache.display());
    fs::create_dir_all(&cache).context(in_cache)?;
    let lock = File::create(cache.join("lock")).context(in_cache)?;
    lock.lock().context(in_cache)?;
    if !jars.is_dir() {
        // A directory with the final name is complete, because it gets that name only then.
        let unfinished = tempfile::tempdir_in(&cache).context(in_cache)?;
        fetch(unfinished.path())?;
        fs::rename(unfinished.path().join("jars"), &jars).context(in_cache)?;
    }
    Ok(jars)
}

fn fetch(directory: &Path) -> Result<()> {
    let maven = tools::maven()?;
    fs::write(directory.join("pom.xml"), project()).context(|| "cannot write pom.xml".to_owned())?;
    let output = Command::new(maven)
        .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"])
        .current_dir(directory)
        .output()
        .context(|| "mvn cannot be run".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    Err(Error::new(Kind::Io, format!("Maven cannot fetch Cassandra {VERSION}"))
        .detail(said)
        .remedy("check that Maven Central can be reached from here, then try again"))
}

fn project() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>kongferry</groupId><artifactId>harness</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies><dependency><groupId>org.apache.cassandra</groupId>\
         <artifactId>cassandra-all</artifactId><version>{VERSION}</version></dependency></dependencies></project>\n"
    )
}
