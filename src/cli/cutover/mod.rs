//! `cutover`: its commands, and what they share.

mod consent;
mod control_client;
mod init;
mod manual_rollback;
mod outcome;
mod plan;
mod render;
mod run;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::args::{BlueArgs, CommonArgs, GreenArgs, TableArgs};
use super::text::{BAD, GOOD, WARN};
use crate::cutover::clock::{Clock, RealClock};
use crate::cutover::config::{CutoverConfig, FILE_NAME};
use crate::cutover::databases::Databases;
use crate::cutover::environment::Environment;
use crate::cutover::gates::runner::GateRunner;
use crate::cutover::integrations::LiveIntegrations;
use crate::cutover::journal::{self, JournalEntry};
use crate::cutover::preflight::Preflight;
use crate::cutover::servers::Authoritative;
use crate::cutover::session::{Operator, StartContext};
use crate::cutover::state::OperatorCommand;
use crate::cutover_databases::LiveDatabases;
use crate::dns::query::{self, NameServer};
use crate::dns::{DnsProvider, Observed};
use crate::error::Result;
use crate::finding::Severity;

#[derive(Debug, Clone, Args)]
pub struct CutoverArgs {
    #[command(subcommand)]
    command: CutoverCommand,
}

/// In the order of a cutover's life.
#[derive(Debug, Clone, Subcommand)]
enum CutoverCommand {
    /// Write a commented cutover.toml to start from
    Init(Box<init::CutoverInitArgs>),
    /// Check cutover.toml and show every request, without changing anything
    Plan(plan::CutoverPlanArgs),
    /// Run the preflight checks, lower the TTL, and run the steps
    Start(run::StartArgs),
    /// Show the state, from the running process or from the provider
    Status(control_client::CutoverStatusArgs),
    /// Keep the current share until resumed
    Pause(ConfigFileArgs),
    /// Continue after a pause, or after the process that ran it has ended
    Resume(run::EngineArgs),
    /// End the current step now
    Promote(control_client::PromoteArgs),
    /// Repeat the current step, or start again after a rollback
    Retry(run::EngineArgs),
    /// Go back one step, and stay there
    Undo(run::EngineArgs),
    /// Send all new resolutions back to blue, now
    #[command(alias = "abort")]
    Rollback(run::RollbackArgs),
    /// Replace the weighted records with plain ones and restore the TTL
    Finish(run::FinishArgs),
    /// Take over records that are split without a marker
    Adopt(run::AdoptArgs),
    /// Release the lease of a process that has ended
    Unlock(ConfigFileArgs),
}

impl CutoverArgs {
    pub(super) fn common(&self) -> &CommonArgs {
        let place = match &self.command {
            CutoverCommand::Init(args) => &args.place,
            CutoverCommand::Plan(args) => &args.place,
            CutoverCommand::Start(args) => &args.engine.place,
            CutoverCommand::Status(args) => &args.place,
            CutoverCommand::Pause(place) | CutoverCommand::Unlock(place) => place,
            CutoverCommand::Resume(args) | CutoverCommand::Retry(args) | CutoverCommand::Undo(args) => {
                &args.place
            }
            CutoverCommand::Promote(args) => &args.place,
            CutoverCommand::Rollback(args) => &args.place,
            CutoverCommand::Finish(args) => &args.engine.place,
            CutoverCommand::Adopt(args) => &args.engine.place,
        };
        &place.common
    }

    pub(super) fn handles_interrupts(&self) -> bool {
        !matches!(self.command, CutoverCommand::Init(_) | CutoverCommand::Plan(_))
    }
}

#[derive(Debug, Clone, Args)]
struct ConfigFileArgs {
    /// Configuration of the cutover
    #[arg(long, short, value_name = "FILE", default_value = FILE_NAME)]
    file: PathBuf,

    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, Default, Args)]
struct DatabaseArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,
}

impl DatabaseArgs {
    /// `None` if neither side is configured.
    fn resolve(&self, common: &CommonArgs) -> Result<Option<Arc<dyn Databases>>> {
        let has_blue = self.blue.blue.is_some() || self.blue.blue_kong_conf.is_some();
        if !has_blue && !self.green.is_given(common) {
            return Ok(None);
        }
        Ok(Some(Arc::new(LiveDatabases {
            blue: self.blue.resolve(common)?,
            green: self.green.resolve(common)?,
            choices: self.tables.choices(true)?,
        })))
    }
}

pub async fn run(args: &CutoverArgs) -> Result<u8> {
    match &args.command {
        CutoverCommand::Init(args) => init::run(args).await,
        CutoverCommand::Plan(args) => plan::run(args).await,
        CutoverCommand::Start(args) => Box::pin(run::start(args)).await,
        CutoverCommand::Status(args) => control_client::status(args).await,
        CutoverCommand::Pause(place) => control_client::pause(place).await,
        CutoverCommand::Resume(args) => Box::pin(run::resume(args, OperatorCommand::Resume)).await,
        CutoverCommand::Promote(args) => control_client::promote(args).await,
        CutoverCommand::Retry(args) => Box::pin(run::resume(args, OperatorCommand::Retry)).await,
        CutoverCommand::Undo(args) => Box::pin(run::resume(args, OperatorCommand::Undo)).await,
        CutoverCommand::Rollback(args) => Box::pin(run::rollback(args)).await,
        CutoverCommand::Finish(args) => Box::pin(run::finish(args)).await,
        CutoverCommand::Adopt(args) => Box::pin(run::adopt(args)).await,
        CutoverCommand::Unlock(place) => run::unlock(place).await,
    }
}

/// The word before a finding, and its color.
fn label(severity: Severity) -> (&'static str, anstyle::Style) {
    match severity {
        Severity::Ok => ("  ok", GOOD),
        Severity::Warning => ("note", WARN),
        Severity::Unproven => (" ask", WARN),
        Severity::Blocker => ("stop", BAD),
    }
}

/// The configuration, and what is connected by it.
struct CutoverContext {
    config: CutoverConfig,
    provider: Arc<dyn DnsProvider>,
    clock: Arc<RealClock>,
    operator: Operator,
}

impl CutoverContext {
    /// Reads the file and the credentials, without sending a request.
    async fn open(place: &ConfigFileArgs) -> Result<CutoverContext> {
        let config = CutoverConfig::read(&place.file)?;
        let provider = config.provider.connect().await?;
        let command = format!("kongferry cutover rollback{}", file_flag(&place.file));
        let operator = Operator::current(chrono::Utc::now(), command);
        Ok(CutoverContext { config, provider, clock: Arc::new(RealClock::start()), operator })
    }

    async fn read(&self) -> Result<Observed> {
        Ok(self.provider.read(&self.config.target).await?)
    }

    /// The journal; empty if it cannot be read.
    fn entries(&self) -> Vec<JournalEntry> {
        journal::read(&self.config.state_dir()).unwrap_or_default()
    }

    async fn servers(&self) -> Result<Vec<NameServer>> {
        query::name_servers(self.config.target.zone(), &self.config.settings.query).await
    }

    fn health(&self) -> Result<GateRunner> {
        GateRunner::new(self.config.gates.clone(), self.config.settings.prometheus.as_ref())
    }

    fn preflight<'a>(
        &'a self,
        observed: &'a Observed,
        servers: &'a [NameServer],
        health: &'a GateRunner,
        databases: Option<&'a dyn Databases>,
    ) -> Preflight<'a> {
        let (config, provider) = (&self.config, self.provider.as_ref());
        Preflight { config, provider, observed, servers, health, databases }
    }

    fn start_context<'a>(&'a self, observed: &'a Observed, entries: &'a [JournalEntry]) -> StartContext<'a> {
        StartContext {
            config: &self.config,
            caps: self.provider.capabilities(),
            observed,
            entries,
            operator: &self.operator,
            now: self.clock.now(),
        }
    }

    fn environment(
        &self,
        servers: Vec<NameServer>,
        health: GateRunner,
        databases: Option<Arc<dyn Databases>>,
    ) -> Environment {
        let settings = &self.config.settings;
        Environment {
            clock: self.clock.clone(),
            provider: self.provider.clone(),
            name_servers: Arc::new(Authoritative {
                servers,
                target: self.config.target.clone(),
                config: settings.query.clone(),
                caps: self.provider.capabilities().clone(),
            }),
            health: Arc::new(health),
            integrations: Arc::new(LiveIntegrations {
                databases: databases.filter(|_| settings.preflight.drift),
                hooks: settings.hooks.clone(),
                notify: settings.notify.clone(),
            }),
        }
    }
}

/// The flag for a file other than the default, with a space before it.
fn file_flag(file: &Path) -> String {
    if file == Path::new(FILE_NAME) { String::new() } else { format!(" --file {}", file.display()) }
}
