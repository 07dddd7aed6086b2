//! A provider of the user's own: a program that reads one JSON object and writes one.
//!
//! It is started without a shell, in a process group of its own that is killed when it takes too long, and sees of our
//! environment only what the configuration lets through. Credentials reach it that way, never as arguments.

mod config;
mod protocol;

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::change;
use super::{
    Capabilities, Change, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName, Exclusion,
    Listing, Marker, Observed, Precondition, Propagation, RecordForm, Request, Side, Target, Ticket, Weights,
    WriteOutcome,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
pub use config::ExecConfig;
use protocol::{ApplyAnswer, Arrival, CapabilitiesResponse, ConfirmAnswer, ListAnswer, ReadAnswer};

const NAME: &str = "exec";

/// What every program needs to find others; nothing in it is secret.
const ALWAYS_PASSED: &[&str] =
    &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];

const OUTPUT_LIMIT: u64 = 1 << 20;

#[derive(Debug)]
pub struct Exec {
    config: ExecConfig,
    caps: Capabilities,
}

impl Exec {
    /// Asks the program what it can do.
    pub async fn new(config: ExecConfig) -> Result<Self> {
        if config.command.first().is_none_or(String::is_empty) {
            return Err(Error::usage("the provider's command must name a program"));
        }
        let answer = run(&config, &protocol::capabilities(), false).await?;
        let caps = protocol::parse::<CapabilitiesResponse>(NAME, false, &answer)?.capabilities();
        Ok(Exec { config, caps })
    }

    fn error(&self, kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
        DnsError::new(NAME, kind, message)
    }

    /// For programs that do not compare and swap.
    async fn check_before(&self, change: &Change) -> DnsResult<WriteOutcome> {
        let now = self.read(&change.target).await?;
        match change.outcome(&now) {
            WriteOutcome::Applied => Ok(WriteOutcome::Applied),
            WriteOutcome::NotApplied if now.version == change.before.version => Ok(WriteOutcome::NotApplied),
            _ => Err(self.error(DnsErrorKind::Conflict, "the records were changed since they were read")),
        }
    }
}

/// One call. `writes` decides what a last_error means.
async fn run(config: &ExecConfig, input: &Json, writes: bool) -> DnsResult<String> {
    let [program, arguments @ ..] = &*config.command else {
        return Err(DnsError::new(NAME, DnsErrorKind::Unsupported, "no program is named"));
    };
    let not_started = |e: std::io::Error| {
        DnsError::new(NAME, DnsErrorKind::Unsupported, format!("{program} cannot be started ({e})"))
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0).kill_on_drop(true);
    let passed = ALWAYS_PASSED.iter().copied().chain(config.pass_env.iter().map(String::as_str));
    command.envs(passed.filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(not_started)?;
    let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
    let limit = Duration::from_secs(config.timeout_seconds);
    let transient = DnsErrorKind::Transient { may_be_applied: writes };
    let finished = tokio::time::timeout(limit, talk(&mut child, input.to_string())).await;
    if let Some(group) = group {
        // Also after a good end: whatever it left running would otherwise outlive us.
        let _ = killpg(group, Signal::SIGKILL);
    }
    match finished {
        Err(_) => {
            let message = format!("{program} did not end within {} s and was killed", limit.as_secs());
            Err(DnsError::new(NAME, transient, message))
        }
        Ok(Err(e)) => Err(DnsError::new(NAME, transient, format!("{program} cannot be talked to ({e})"))),
        Ok(Ok((status, output, complaints))) => {
            for line in complaints.lines() {
                tracing::info!("{program}: {line}");
            }
            if status.success() {
                return Ok(output);
            }
            Err(DnsError::new(NAME, transient, format!("{program} failed ({status})")).answered(complaints))
        }
    }
}

async fn talk(child: &mut Child, input: String) -> std::io::Result<(ExitStatus, String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program that answers without reading is no failure.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let (mut output, mut complaints) = (Vec::new(), Vec::new());
    let read = async {
        if let Some(stdout) = stdout {
            stdout.take(OUTPUT_LIMIT).read_to_end(&mut output).await?;
        }
        std::io::Result::Ok(())
    };
    let complain = async {
        if let Some(stderr) = stderr {
            stderr.take(OUTPUT_LIMIT).read_to_end(&mut complaints).await?;
        }
        std::io::Result::Ok(())
    };
    let ((), read, complained) = tokio::join!(write, read, complain);
    read?;
    complained?;
    let status = child.wait().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((status, text(&output), text(&complaints)))
}

#[async_trait]
impl DnsProvider for Exec {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> &Capabilities {
        &self.caps
    }

    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>> {
        self.read(target).await?;
        let message = format!("{} answers", self.config.command.join(" "));
        Ok(vec![Finding::ok(message)])
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let answer = run(&self.config, &protocol::list(zone, names), false).await?;
        Ok(protocol::parse::<ListAnswer>(NAME, false, &answer)?.listing())
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        let answer = run(&self.config, &protocol::read(target), false).await?;
        protocol::parse::<ReadAnswer>(NAME, false, &answer)?.observed(NAME, target)
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        let wanted = change::wanted(NAME, &self.caps.weights, self.caps.min_ttl, target, before, desired)?;
        let id = change::id(before, desired);
        let marker = desired.marker.as_ref().map(Marker::to_text);
        let expect = (desired.precondition == Precondition::Unchanged).then_some(&before.version);
        let input = protocol::apply(&id, target, &wanted, marker.as_deref(), expect);
        let request = Request::Program { command: self.config.command.clone(), input };
        Ok(change::planned(target, before, desired, &wanted, request))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Program { input, .. } = &change.request else {
            return Err(self.error(DnsErrorKind::Unsupported, "this change was planned for another provider"));
        };
        let guarded = change.desired.precondition == Precondition::Unchanged;
        let alone = guarded && self.caps.exclusion == Exclusion::ReadBack;
        if alone && self.check_before(change).await? == WriteOutcome::Applied {
            return Ok(Ticket { change_id: None });
        }
        let answered = run(&self.config, input, true).await;
        let answered = answered.and_then(|answer| protocol::parse::<ApplyAnswer>(NAME, true, &answer));
        let answer = match answered {
            Err(refused) if guarded && refused.kind == DnsErrorKind::Conflict => {
                let now = self.read(&change.target).await?;
                if change.outcome(&now) != WriteOutcome::Applied {
                    return Err(refused);
                }
                ApplyAnswer { change_id: None }
            }
            other => other?,
        };
        if alone {
            let after = self.read(&change.target).await.map_err(|mut error| {
                error.kind = DnsErrorKind::Transient { may_be_applied: true };
                error
            })?;
            if change.outcome(&after) != WriteOutcome::Applied {
                return Err(self.error(DnsErrorKind::Conflict, "something else stands there after the write"));
            }
        }
        Ok(Ticket { change_id: answer.change_id })
    }

    async fn confirm(&self, ticket: &Ticket) -> DnsResult<Propagation> {
        if self.caps.confirmation == super::Confirmation::Immediate {
            return Ok(Propagation::InSync);
        }
        let answer = run(&self.config, &protocol::confirm(ticket.change_id.as_deref()), false).await?;
        let answer = protocol::parse::<ConfirmAnswer>(NAME, false, &answer)?;
        Ok(if answer.state == Arrival::Insync { Propagation::InSync } else { Propagation::Pending })
    }

    fn manual_command(&self, change: &Change) -> String {
        let Request::Program { command, input } = &change.request else { return String::new() };
        by_hand(command, input)
    }
}

fn by_hand(command: &[String], input: &Json) -> String {
    let words: Vec<String> = command.iter().map(|word| super::shell::quoted(word)).collect();
    format!("{} <<'JSON'\n{input}\nJSON", words.join(" "))
}

/// Ordinary records of blue, which every program can write. The program is told to forget the marker: what it says is
/// not known here.
fn manual_rollback(config: &ExecConfig, target: &Target, ttl: u32) -> DnsResult<String> {
    let desired = change::blue_again(RecordForm::Plain(Side::Blue), ttl);
    let before = change::unread(target);
    let wanted = change::wanted(NAME, &Weights::SwitchOnly, 0, target, &before, &desired)?;
    let input = protocol::apply("by-hand", target, &wanted, None, None);
    Ok(by_hand(&config.command, &input))
}
