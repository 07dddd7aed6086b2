//! Calls of the user's own programs and services: hooks, notifications and gates.
//!
//! An address may contain a token: it can be read from a variable or a file, and no message repeats it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

use crate::duration::compact;
use crate::error::{Error, Kind, Result};
use crate::http;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExternalCall {
    /// Gets JSON by POST; any 2xx is a success.
    pub url: Option<String>,
    pub url_env: Option<String>,
    pub url_file: Option<PathBuf>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A program with its arguments, started without a shell. Gets JSON on standard input; exit code 0 is a success.
    pub run: Option<Vec<String>>,
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

/// The default for `timeout`.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallReply {
    Success(String),
    Failure(String),
    NoReply(String),
}

impl ExternalCall {
    /// Checks the keys of the call at `place` in the file.
    pub(crate) fn check(&self, place: &str) -> Result<()> {
        let keys = [self.url.is_some(), self.url_env.is_some(), self.url_file.is_some(), self.run.is_some()];
        if keys.iter().filter(|is_set| **is_set).count() != 1 {
            return Err(Error::usage(format!("{place} needs exactly one of url, url_env, url_file and run")));
        }
        if self.run.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::usage(format!("{place}: run is empty"))
                .remedy("Write the program and its arguments: run = [\"./program\", \"argument\"]."));
        }
        Ok(())
    }

    /// Checks without calling: the address is readable and valid, or the program exists.
    pub(crate) fn check_target(&self) -> Result<()> {
        let Some(program) = self.run.as_ref().and_then(|run| run.first()) else {
            let address = self.address()?;
            return match reqwest::Url::parse(address.expose_secret()) {
                Ok(url) if matches!(url.scheme(), "http" | "https") => Ok(()),
                // Not repeated: it may contain a token.
                _ => Err(Error::usage("the address does not begin with http:// or https://")),
            };
        };
        let is_executable = |path: &Path| {
            use std::os::unix::fs::PermissionsExt;
            path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        let found = if program.contains('/') {
            is_executable(Path::new(program))
        } else {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|folder| is_executable(&folder.join(program)))
        };
        if found { Ok(()) } else { Err(Error::usage(format!("{program} is not an executable program"))) }
    }

    pub(crate) async fn call(&self, body: &serde_json::Value) -> CallReply {
        let limit = self.timeout.unwrap_or(TIMEOUT);
        let called = async {
            match &self.run {
                Some(run) => {
                    run_program(run, body.to_string().as_bytes(), limit).await.map(ProgramExit::reply)
                }
                None => self.post(body, limit).await,
            }
        };
        match called.await {
            Ok(reply) => reply,
            Err(error) => {
                let causes = error.causes();
                let cause = causes.first().map(|cause| format!(": {cause}")).unwrap_or_default();
                CallReply::NoReply(format!("{}{cause}", error.message()))
            }
        }
    }

    fn address(&self) -> Result<SecretString> {
        if let Some(url) = &self.url {
            return Ok(SecretString::from(url.clone()));
        }
        if let Some(name) = &self.url_env {
            let value = std::env::var(name).ok().filter(|value| !value.trim().is_empty());
            return value.map(|value| SecretString::from(value.trim().to_owned())).ok_or_else(|| {
                Error::usage(format!("the variable {name} is not set"))
                    .remedy(format!("Export {name} with the address that cutover.toml reads from it."))
            });
        }
        let file = self.url_file.clone().unwrap_or_default();
        let text = std::fs::read_to_string(&file)
            .map_err(|e| Error::usage(format!("cannot read {}", file.display())).source(e))?;
        Ok(SecretString::from(text.trim().to_owned()))
    }

    async fn post(&self, body: &serde_json::Value, limit: Duration) -> Result<CallReply> {
        let address = self.address()?;
        let mut request = http::client(None, limit)?.post(address.expose_secret()).json(body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        // The address may contain a token.
        let answer = request.send().await.map_err(|e| no_answer(e.without_url()))?;
        let status = answer.status();
        let text = answer.text().await.unwrap_or_default();
        let text: String = text.trim().chars().take(200).collect();
        Ok(if status.is_success() {
            CallReply::Success(text)
        } else {
            CallReply::Failure(format!("HTTP {status} {text}").trim().to_owned())
        })
    }
}

fn no_answer(error: reqwest::Error) -> Error {
    let message = if error.is_timeout() { "no answer in time" } else { "no answer" };
    Error::new(Kind::Connection, message).source(error)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgramExit {
    /// None if a signal ended it.
    pub code: Option<i32>,
    /// The last line of standard output, or else of standard error.
    pub last_line: String,
}

impl ProgramExit {
    fn reply(self) -> CallReply {
        match self.code {
            Some(0) => CallReply::Success(self.last_line),
            Some(code) => {
                CallReply::Failure(format!("exit code {code} {}", self.last_line).trim().to_owned())
            }
            None => CallReply::Failure("a signal ended the program".to_owned()),
        }
    }
}

/// Runs a program without a shell. After `limit` it is killed with its children.
pub(crate) async fn run_program(run: &[String], input: &[u8], limit: Duration) -> Result<ProgramExit> {
    let (program, arguments) = run.split_first().ok_or_else(|| Error::usage("run is empty"))?;
    let cannot = || Error::new(Kind::Io, format!("cannot run {program}"));
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| cannot().source(e))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(mut stdin) = child.stdin.take() {
        // A program need not read its input.
        let _ = tokio::time::timeout(limit, stdin.write_all(input)).await;
    }
    let Ok(output) = tokio::time::timeout(limit, child.wait_with_output()).await else {
        if let Some(group) = group {
            let _ = nix::sys::signal::killpg(
                nix::unistd::Pid::from_raw(group),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        return Err(Error::new(Kind::Io, format!("{program} did not finish within {}", compact(limit))));
    };
    let output = output.map_err(|e| cannot().source(e))?;
    let last = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        text.lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map(|line| line.chars().take(200).collect::<String>())
    };
    let last_line = last(&output.stdout).or_else(|| last(&output.stderr)).unwrap_or_default();
    Ok(ProgramExit { code: output.status.code(), last_line })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(argv: &[&str]) -> ExternalCall {
        let run = Some(argv.iter().copied().map(str::to_owned).collect());
        ExternalCall { run, ..ExternalCall::default() }
    }

    #[tokio::test]
    async fn the_exit_code_of_a_program_decides() {
        let body = serde_json::json!({ "event": "test" });
        assert_eq!(run(&["cat"]).call(&body).await, CallReply::Success(r#"{"event":"test"}"#.to_owned()));
        assert_eq!(
            run(&["sh", "-c", "echo busy; exit 7"]).call(&body).await,
            CallReply::Failure("exit code 7 busy".to_owned())
        );
        assert!(matches!(run(&["/no/such/program"]).call(&body).await, CallReply::NoReply(_)));
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed() {
        let hangs = ExternalCall {
            timeout: Some(Duration::from_millis(100)),
            ..run(&["sh", "-c", "sleep 600 & sleep 600"])
        };
        let CallReply::NoReply(text) = hangs.call(&serde_json::Value::Null).await else {
            panic!("it answered")
        };
        assert!(text.contains("did not finish within 100ms"), "{text}");
    }

    #[test]
    fn a_missing_target_is_found_without_calling() {
        let check = |call: ExternalCall| call.check_target().map_err(|error| error.message().to_owned());
        assert_eq!(check(run(&["sh", "-c", "true"])), Ok(()));
        assert_eq!(
            check(run(&["./no-such.sh"])),
            Err("./no-such.sh is not an executable program".to_owned())
        );
        let to = |url: &str| ExternalCall { url: Some(url.to_owned()), ..ExternalCall::default() };
        assert_eq!(check(to("https://chat.example.com/T0/secret")), Ok(()));
        let message = check(to("chat.example.com/T0/secret")).unwrap_err();
        assert!(!message.contains("secret"), "{message}");
        let unset = ExternalCall {
            url_env: Some("KONGFERRY_NO_SUCH_VARIABLE".to_owned()),
            ..ExternalCall::default()
        };
        assert_eq!(check(unset), Err("the variable KONGFERRY_NO_SUCH_VARIABLE is not set".to_owned()));
    }

    #[test]
    fn exactly_one_way_to_call_is_required() {
        assert!(ExternalCall::default().check("hooks.event").is_err());
        let both = ExternalCall { url: Some("http://127.0.0.1/".to_owned()), ..run(&["true"]) };
        assert!(both.check("hooks.event").is_err());
        assert!(run(&["true"]).check("hooks.event").is_ok());
    }
}
