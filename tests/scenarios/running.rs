//! A run of the program in the background, paused at a failpoint (`src/failpoints.rs`) or interrupted.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Child;

use super::support::{Ran, program, ran};

/// How long a test waits for what must happen.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, is_so: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    let (what, mut is_so) = (what.to_owned(), is_so);
    async move {
        let deadline = Instant::now() + LIMIT;
        while !is_so().await {
            assert!(Instant::now() < deadline, "{place}: waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The program at work. It is killed when this is dropped.
pub struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    /// Starts it; with a place it will stop there.
    pub fn start<S: AsRef<OsStr>>(arguments: &[S], place: Option<&str>) -> Running {
        let (mut command, folder) = program();
        command.args(arguments);
        Running::start_command(command, folder, place)
    }

    /// Starts a command that was prepared otherwise; `folder` takes what it says.
    pub fn start_command(mut command: Command, folder: tempfile::TempDir, place: Option<&str>) -> Running {
        let file = |name: &str| File::create(folder.path().join(name)).expect("a file");
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        if let Some(place) = place {
            command.env("KONGFERRY_PAUSE_AT", place).env("KONGFERRY_PAUSE_FILE", folder.path().join("pause"));
        }
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().expect("the program");
        Running { child, folder }
    }

    pub fn id(&self) -> i32 {
        self.child.id().and_then(|id| i32::try_from(id).ok()).expect("it has not ended")
    }

    /// Waits until it has come to its place.
    pub async fn held(mut self) -> Running {
        let deadline = Instant::now() + LIMIT;
        while !self.pause().exists() {
            if let Some(status) = self.child.try_wait().expect("its state") {
                let ran = self.output(status);
                panic!("it ended before it came to its place: {ran:#?}");
            }
            assert!(Instant::now() < deadline, "it does not come to its place");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self
    }

    pub fn release(self) -> Running {
        fs::remove_file(self.pause()).expect("it is held");
        self
    }

    pub fn signal(self, signal: Signal) -> Running {
        kill(Pid::from_raw(self.id()), signal).expect("it has not ended");
        self
    }

    /// kill -9, wherever it is; it may have ended by itself.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("it has ended");
    }

    pub async fn end(mut self) -> Ran {
        let status =
            tokio::time::timeout(LIMIT, self.child.wait()).await.expect("it ends").expect("its state");
        self.output(status)
    }

    fn pause(&self) -> PathBuf {
        self.folder.path().join("pause")
    }

    fn output(&self, status: std::process::ExitStatus) -> Ran {
        let read = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        let output = Output { status, stdout: read("stdout"), stderr: read("stderr") };
        ran(output, &self.folder.path().join("rejects.jsonl"))
    }
}
