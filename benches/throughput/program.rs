//! Runs the program as a user does, and watches what it takes.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kongferry::error::{Error, Kind, Result};
use kongferry_harness::postgres::Database;
use serde_json::Value;

use crate::servers::{Measured, Servers, cpu_of, failed};

/// How often the program's memory and CPU are read.
const LOOK: Duration = Duration::from_millis(10);

/// The program and a folder to run it in.
pub struct Program {
    folder: tempfile::TempDir,
}

/// What one run of the program came to.
pub struct Ran {
    command: String,
    code: i32,
    report: Value,
    stderr: String,
    measured: Measured,
    /// The largest resident memory, in kB.
    peak: u64,
}

impl Program {
    pub fn new() -> Result<Program> {
        let folder = tempfile::tempdir().map_err(|e| failed("there is no directory to run in", e))?;
        Ok(Program { folder })
    }

    /// Runs one command to its end.
    pub async fn run(&self, command: &str, servers: &Servers, green: &Database) -> Result<Ran> {
        let file = |name: &str| self.folder.path().join(name);
        let create = |name: &str| File::create(file(name)).map_err(|e| failed("cannot write a file", e));
        let mut program = Command::new(beside("kongferry")?);
        for (name, _) in std::env::vars() {
            if ["KONG", "PG", "XDG"].iter().any(|start| name.starts_with(start)) {
                program.env_remove(name);
            }
        }
        program.args([command, "--blue", &servers.blue().url(), "--green", green.url(), "--format", "json"]);
        if command == "migrate" {
            program.arg("--yes");
        }
        program.current_dir(self.folder.path()).env("NO_COLOR", "1").stdin(Stdio::null());
        program.stdout(create("stdout")?).stderr(create("stderr")?);
        let (before, began) = (servers.cpu(), Instant::now());
        let mut child = program.spawn().map_err(|e| failed("cannot run kongferry", e))?;
        let process = child.id().to_string();
        let (mut peak, mut own, mut scratch) = (0, 0.0, 0.0);
        let status = loop {
            peak = peak_of(&process).max(peak);
            let (alone, all) = (cpu_of(&process, false), cpu_of(&process, true));
            if all > 0.0 {
                (own, scratch) = (alone, all - alone);
            }
            match child.try_wait().map_err(|e| failed("cannot wait for kongferry", e))? {
                Some(status) => break status,
                None => tokio::time::sleep(LOOK).await,
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        let [cassandra, postgres] = servers.cpu_since(before);
        let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
        Ok(Ran {
            command: command.to_owned(),
            code: status.code().unwrap_or(-1),
            report: serde_json::from_str(&read("stdout")).unwrap_or_default(),
            stderr: read("stderr"),
            // The scratch server of `plan` is a child of the program.
            measured: Measured { seconds, cpu: Some([own, cassandra, postgres + scratch]), refused: false },
            peak,
        })
    }
}

impl Ran {
    /// Fails unless the program ended with one of these.
    pub fn expect(mut self, codes: &[i32]) -> Result<Ran> {
        if codes.contains(&self.code) {
            self.measured.refused = self.code == 4;
            return Ok(self);
        }
        let message = format!("{} ended with {}", self.command, self.code);
        Err(Error::new(Kind::Server, message).detail(self.stderr).detail(self.report.to_string()))
    }

    /// Wall time of one phase, as the program says it.
    pub fn phase(&self, name: &str) -> Result<Measured> {
        let seconds = self.report.pointer(&format!("/seconds/{name}")).and_then(Value::as_f64);
        let seconds = seconds.ok_or_else(|| {
            Error::new(Kind::Server, format!("no time of the phase {name} in {}", self.report))
        })?;
        Ok(Measured { seconds, ..Measured::default() })
    }

    /// Wall time and CPU seconds.
    pub fn measured(&self) -> &Measured {
        &self.measured
    }

    /// The largest resident memory, in kB.
    pub fn peak(&self) -> u64 {
        self.peak
    }
}

/// A path beside this program, where cargo puts all programs of one build.
pub fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().map_err(|e| failed("this program does not know where it is", e))?;
    Ok(own.parent().unwrap_or(&own).join(name))
}

/// The kernel keeps the peak while the process lives.
fn peak_of(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
