//! `cutover`: its commands and their flags.

mod consent;
mod control_client;
mod init;
mod manual_rollback;
mod outcome;
mod plan;
mod render;
mod run;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::args::{BlueArgs, CommonArgs, GreenArgs, TableArgs};
use super::text::{BAD, GOOD, WARN};
use crate::cutover::clock::RealClock;
use crate::cutover::config::{CutoverConfig, FILE_NAME};
use crate::cutover::databases::Databases;
use crate::cutover::environment::Environment;
use crate::cutover::gates::runner::GateRunner;
use crate::cutover::integrations::LiveIntegrations;
use crate::cutover::journal::{self, JournalEntry};
use crate::cutover::servers::Authoritative;
use crate::cutover::session::{Operator, StartContext};
use crate::cutover_databases::LiveDatabases;
use crate::dns::query::{self, NameServer};
use crate::dns::{DnsProvider, Observed};
use crate::error::Result;
use crate::finding::Severity;

/// Arguments of `cutover`.
#[derive(Debug, Clone, Args)]
pub struct CutoverArgs {
    #[command(subcommand)]
    command: CutoverCommand,
}

/// What can be said about a cutover, in the order of its life.
#[derive(Debug, Clone, Subcommand)]
enum CutoverCommand {
    /// Write a commented cutover.toml to start from
    Init(Box<init::InitArgs>),
    /// Check cutover.toml and show every request, without changing anything
    Plan(plan::PlanArgs),
    /// Run the preflight checks, lower the TTL, and run the steps
    Start(run::StartArgs),
    /// Show the state, from the running process or from the provider
    Status(control_client::StatusArgs),
    /// Keep the current share until resumed
    Pause(control_client::PauseArgs),
    /// Continue after a pause, or after the process that ran it has ended
    Resume(run::ResumeArgs),
    /// End the current step now
    Promote(control_client::PromoteArgs),
    /// Repeat the current step, or start again after a rollback
    Retry(run::ResumeArgs),
    /// Go back one step, and stay there
    Undo(run::ResumeArgs),
    /// Send all new resolutions back to blue, now
    #[command(alias = "abort")]
    Rollback(run::RollbackArgs),
    /// Replace the weighted records with plain ones and restore the TTL
    Finish(run::FinishArgs),
    /// Take over records that are split without a marker
    Adopt(run::AdoptArgs),
    /// Release the lease of a process that has ended
    Unlock(run::UnlockArgs),
}

impl CutoverArgs {
    pub(super) fn common(&self) -> &CommonArgs {
        &self.place().common
    }

    fn place(&self) -> &ConfigFileArgs {
        match &self.command {
            CutoverCommand::Init(args) => &args.place,
            CutoverCommand::Plan(args) => &args.place,
            CutoverCommand::Start(args) => &args.watch.place,
            CutoverCommand::Status(args) => &args.place,
            CutoverCommand::Pause(args) => &args.place,
            CutoverCommand::Resume(args) | CutoverCommand::Retry(args) | CutoverCommand::Undo(args) => {
                &args.watch.place
            }
            CutoverCommand::Promote(args) => &args.place,
            CutoverCommand::Rollback(args) => &args.place,
            CutoverCommand::Finish(args) => &args.watch.place,
            CutoverCommand::Adopt(args) => &args.watch.place,
            CutoverCommand::Unlock(args) => &args.place,
        }
    }

    /// Whether the command sees to Ctrl-C itself.
    pub(super) fn handles_interrupts(&self) -> bool {
        !matches!(self.command, CutoverCommand::Init(_) | CutoverCommand::Plan(_))
    }
}

/// What every command of `cutover` understands.
#[derive(Debug, Clone, Args)]
pub struct ConfigFileArgs {
    /// Configuration of the cutover
    #[arg(long, short, value_name = "FILE", default_value = FILE_NAME)]
    pub file: PathBuf,

    #[command(flatten)]
    pub common: CommonArgs,
}

/// Both databases, for those commands that compare them.
#[derive(Debug, Clone, Default, Args)]
pub struct DatabaseArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,
}

impl DatabaseArgs {
    fn resolve(&self, common: &CommonArgs) -> Result<Option<Arc<dyn Databases>>> {
        let blue = self.blue.blue.is_some() || self.blue.blue_kong_conf.is_some();
        if !blue && !self.green.is_given(common) {
            return Ok(None);
        }
        Ok(Some(Arc::new(LiveDatabases {
            blue: self.blue.resolve(common)?,
            green: self.green.resolve(common)?,
            choices: self.tables.choices(true)?,
        })))
    }
}

/// Runs the command.
pub async fn run(args: &CutoverArgs) -> Result<u8> {
    match &args.command {
        CutoverCommand::Init(args) => init::run(args).await,
        CutoverCommand::Plan(args) => plan::run(args).await,
        CutoverCommand::Start(args) => Box::pin(run::start(args)).await,
        CutoverCommand::Status(args) => control_client::status(args).await,
        CutoverCommand::Pause(args) => control_client::pause(args).await,
        CutoverCommand::Resume(args) => Box::pin(run::resume(args, run::ResumeMode::Resume)).await,
        CutoverCommand::Promote(args) => control_client::promote(args).await,
        CutoverCommand::Retry(args) => Box::pin(run::resume(args, run::ResumeMode::Retry)).await,
        CutoverCommand::Undo(args) => Box::pin(run::resume(args, run::ResumeMode::Undo)).await,
        CutoverCommand::Rollback(args) => Box::pin(run::rollback(args)).await,
        CutoverCommand::Finish(args) => Box::pin(run::finish(args)).await,
        CutoverCommand::Adopt(args) => Box::pin(run::adopt(args)).await,
        CutoverCommand::Unlock(args) => run::unlock(args).await,
    }
}

/// The word before a finding, and its colour.
fn label(severity: Severity) -> (&'static str, anstyle::Style) {
    match severity {
        Severity::Ok => ("  ok", GOOD),
        Severity::Warning => ("note", WARN),
        Severity::Unproven => (" ask", WARN),
        Severity::Blocker => ("stop", BAD),
    }
}

/// The configuration with everything that it names, connected as far as it goes.
pub(super) struct CutoverContext {
    pub config: CutoverConfig,
    pub provider: Arc<dyn DnsProvider>,
    pub clock: Arc<RealClock>,
    pub operator: Operator,
}

impl CutoverContext {
    /// Reads the file and the credentials, without sending a request.
    pub async fn open(place: &ConfigFileArgs) -> Result<CutoverContext> {
        let config = CutoverConfig::read(&place.file)?;
        let provider = config.provider.connect().await?;
        let command = match place.file.to_str() {
            Some(FILE_NAME) => "kongferry cutover rollback".to_owned(),
            _ => format!("kongferry cutover rollback --file {}", place.file.display()),
        };
        let operator = Operator::current(chrono::Utc::now(), command);
        Ok(CutoverContext { config, provider, clock: Arc::new(RealClock::start()), operator })
    }

    /// What the provider holds.
    pub async fn read(&self) -> Result<Observed> {
        Ok(self.provider.read(&self.config.target).await?)
    }

    /// The journal, as far as there is one that can be read.
    pub fn entries(&self) -> Vec<JournalEntry> {
        journal::read(&self.config.state_dir()).unwrap_or_default()
    }

    /// The name servers to ask.
    pub async fn servers(&self) -> Result<Vec<NameServer>> {
        query::name_servers(self.config.target.zone(), &self.config.settings.query).await
    }

    /// Gates and counters.
    pub fn health(&self) -> Result<GateRunner> {
        GateRunner::new(self.config.gates.clone(), self.config.settings.prometheus.clone())
    }

    /// What an opening is made of.
    pub fn start_context<'a>(
        &'a self,
        observed: &'a Observed,
        entries: &'a [JournalEntry],
    ) -> StartContext<'a> {
        use crate::cutover::clock::Clock;
        let now = self.clock.now();
        StartContext {
            config: &self.config,
            caps: self.provider.capabilities(),
            observed,
            entries,
            operator: &self.operator,
            now,
        }
    }

    /// The world for the engine.
    pub fn environment(
        &self,
        servers: Vec<NameServer>,
        health: GateRunner,
        databases: Option<Arc<dyn Databases>>,
    ) -> Result<Environment> {
        let settings = &self.config.settings;
        let databases = databases.filter(|_| settings.preflight.drift);
        let (target, query) = (self.config.target.clone(), settings.query.clone());
        let servers = Authoritative::new(servers, target, query, self.provider.capabilities());
        Ok(Environment {
            clock: self.clock.clone(),
            provider: self.provider.clone(),
            name_servers: Arc::new(servers),
            health: Arc::new(health),
            integrations: Arc::new(LiveIntegrations::new(
                databases,
                settings.hooks.clone(),
                settings.notify.clone(),
            )?),
        })
    }
}
