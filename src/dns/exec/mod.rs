//! The operator's own program: it reads one JSON object and writes one.
//!
//! It runs without a shell, in a process group of its own that is killed at the timeout, with only the environment
//! variables that the configuration lists. Credentials are passed in these, never as arguments.

mod config;
mod protocol;

use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::change::{self, Plan};
use super::providers::ProviderTable;
use super::{
    Capabilities, Change, Confirmation, Desired, DnsError, DnsErrorKind, DnsProvider, DnsResult, DomainName,
    Exclusion, Listing, Observed, Precondition, Propagation, RecordForm, Request, Side, Target, Ticket,
    Weights, exclusion,
};
use crate::error::{Error, Result};
use crate::finding::Finding;
use config::ExecArgs;
pub use config::ExecConfig;
use protocol::{ApplyResponse, CapabilitiesResponse, ConfirmResponse, PropagationState, ReadResponse};

const NAME: &str = "exec";

/// Variables that most programs need; none is secret.
const ALWAYS_PASSED: &[&str] =
    &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"];

const OUTPUT_LIMIT: u64 = 1 << 20;

#[derive(Debug)]
pub struct Exec {
    config: ExecConfig,
    caps: Capabilities,
}

#[async_trait]
impl ProviderTable for ExecConfig {
    type InitArgs = ExecArgs;

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(Exec::new(self).await?))
    }

    /// Ordinary records of blue, which every program can write. The program is told to remove the marker, whose text is
    /// unknown here.
    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        let form = RecordForm::Plain(Side::Blue);
        Plan::manual_rollback(NAME, &Weights::SwitchOnly, target, form, ttl, |plan| {
            Ok(shell_command(&self.command, &protocol::apply(plan)))
        })
    }
}

fn error(kind: DnsErrorKind, message: impl Into<String>) -> DnsError {
    DnsError::new(NAME, kind, message)
}

impl Exec {
    /// Runs the program once, for its capabilities.
    pub async fn new(config: ExecConfig) -> Result<Self> {
        if config.command.first().is_none_or(String::is_empty) {
            return Err(Error::usage("provider.command in cutover.toml names no program")
                .remedy("Write the program as the first element of command."));
        }
        let response = run::<CapabilitiesResponse>(&config, &protocol::capabilities(), false).await?;
        Ok(Exec { caps: response.capabilities(), config })
    }

    async fn call<T: for<'de> Deserialize<'de>>(&self, input: &Json) -> DnsResult<T> {
        run(&self.config, input, false).await
    }
}

/// One call. `writes`: a failed call may have written.
async fn run<T: for<'de> Deserialize<'de>>(config: &ExecConfig, input: &Json, writes: bool) -> DnsResult<T> {
    let [program, arguments @ ..] = &*config.command else {
        return Err(error(DnsErrorKind::Unsupported, "provider.command names no program"));
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().process_group(0).kill_on_drop(true);
    let passed = ALWAYS_PASSED.iter().copied().chain(config.pass_env.iter().map(String::as_str));
    command.envs(passed.filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|e| error(DnsErrorKind::Unsupported, format!("cannot start {program} ({e})")))?;
    let group = child.id().map(|id| Pid::from_raw(id.cast_signed()));
    let finished = tokio::time::timeout(config.timeout, communicate(&mut child, input.to_string())).await;
    if let Some(group) = group {
        // After success too: processes that the program left running would outlive kongferry.
        let _ = killpg(group, Signal::SIGKILL);
    }
    let failed = |message| error(DnsErrorKind::Transient { may_be_applied: writes }, message);
    let limit = humantime::format_duration(config.timeout);
    let (status, output, log) = finished
        .map_err(|_| failed(format!("{program} did not exit within {limit} and was killed")))?
        .map_err(|e| failed(format!("cannot exchange data with {program} ({e})")))?;
    for line in log.lines() {
        tracing::info!("{program}: {line}");
    }
    if !status.success() {
        return Err(failed(format!("{program} failed ({status})")).with_answer(log));
    }
    protocol::parse(writes, &output)
}

/// The exit status, standard output and standard error of the program.
async fn communicate(child: &mut Child, input: String) -> std::io::Result<(ExitStatus, String, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A program may respond without reading its input.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let ((), output, log) = tokio::join!(write, read_limited(stdout), read_limited(stderr));
    Ok((child.wait().await?, output?, log?))
}

async fn read_limited(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
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
        Ok(vec![Finding::ok(format!("{} reads the records", self.config.command.join(" ")))])
    }

    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let mut listing: Listing = self.call(&protocol::list(zone, names)).await?;
        listing.records.iter_mut().for_each(|record| record.rtype.make_ascii_uppercase());
        Ok(listing)
    }

    async fn read(&self, target: &Target) -> DnsResult<Observed> {
        self.call::<ReadResponse>(&protocol::read(target)).await?.observed(target)
    }

    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change> {
        let plan = Plan::new(NAME, &self.caps, target, before, desired)?;
        let input = protocol::apply(&plan);
        Ok(plan.into_change(Request::Program { command: self.config.command.clone(), input }))
    }

    async fn apply(&self, change: &Change) -> DnsResult<Ticket> {
        let Request::Program { input, .. } = &change.request else {
            return Err(change::planned_for_another(NAME));
        };
        let write = async {
            let response = run::<ApplyResponse>(&self.config, input, true).await?;
            Ok(Ticket { change_id: response.change_id })
        };
        if self.caps.exclusion == Exclusion::ReadBack {
            return exclusion::read_back(self, change, write).await;
        }
        match write.await {
            Err(refusal)
                if refusal.kind == DnsErrorKind::Conflict
                    && change.desired.precondition == Precondition::Unchanged =>
            {
                exclusion::explain_refusal(self, change, refusal).await
            }
            result => result,
        }
    }

    async fn confirm(&self, ticket: &Ticket) -> DnsResult<Propagation> {
        if self.caps.confirmation == Confirmation::Immediate {
            return Ok(Propagation::InSync);
        }
        let response: ConfirmResponse = self.call(&protocol::confirm(ticket.change_id.as_deref())).await?;
        Ok(match response.state {
            PropagationState::Pending => Propagation::Pending,
            PropagationState::Insync => Propagation::InSync,
        })
    }

    fn manual_command(&self, change: &Change) -> String {
        let Request::Program { command, input } = &change.request else { return String::new() };
        shell_command(command, input)
    }
}

fn shell_command(command: &[String], input: &Json) -> String {
    format!("{} <<'JSON'\n{input}\nJSON", shell_words::join(command))
}
