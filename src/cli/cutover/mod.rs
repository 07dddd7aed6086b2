//! `cutover`: its commands and their flags.

mod consent;
mod control_client;
mod init;
mod manual_rollback;
mod plan;
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
use crate::cutover::journal::{self, Entry};
use crate::cutover::servers::Authoritative;
use crate::cutover::session::{Operator, StartContext};
use crate::cutover_databases::LiveDatabases;
use crate::dns::query::{self, NameServer};
use crate::dns::{self, DnsProvider, Observed};
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
    /// Write a commented cutover.toml to begin with
    Init(Box<init::InitArgs>),
    /// Check cutover.toml and show every request of every step; changes nothing
    Plan(plan::PlanArgs),
    /// Look at everything, lower the TTL, and go through the steps
    Start(run::StartArgs),
    /// Where it stands, from the engine or from the provider
    Status(control_client::StatusArgs),
    /// Stay at the present share
    Pause(control_client::SpeakArgs),
    /// Go on: after a pause, or after the process that watched it has gone
    Resume(run::ResumeArgs),
    /// End the present step now
    Promote(control_client::PromoteArgs),
    /// Begin the present step again, or begin anew after a rollback
    Retry(run::ResumeArgs),
    /// One step back, and stay there
    Undo(run::ResumeArgs),
    /// Send all new resolutions back to blue, now
    #[command(alias = "abort")]
    Rollback(run::RollbackArgs),
    /// Make the records ordinary again, with their old TTL
    Finish(run::FinishArgs),
    /// Take over records that are split without a marker
    Adopt(run::AdoptArgs),
    /// Take the lease away from a process that is gone
    Unlock(run::UnlockArgs),
}

impl CutoverArgs {
    pub(super) fn common(&self) -> &CommonArgs {
        &self.place().common
    }

    fn place(&self) -> &PlaceArgs {
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
    pub(super) fn minds_interrupts(&self) -> bool {
        !matches!(self.command, CutoverCommand::Init(_) | CutoverCommand::Plan(_))
    }
}

/// What every command of `cutover` understands.
#[derive(Debug, Clone, Args)]
pub struct PlaceArgs {
    /// The file that says what is moved and how
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
        CutoverCommand::Resume(args) => Box::pin(run::resume(args, run::Way::Resume)).await,
        CutoverCommand::Promote(args) => control_client::promote(args).await,
        CutoverCommand::Retry(args) => Box::pin(run::resume(args, run::Way::Retry)).await,
        CutoverCommand::Undo(args) => Box::pin(run::resume(args, run::Way::Undo)).await,
        CutoverCommand::Rollback(args) => Box::pin(run::rollback(args)).await,
        CutoverCommand::Finish(args) => Box::pin(run::finish(args)).await,
        CutoverCommand::Adopt(args) => Box::pin(run::adopt(args)).await,
        CutoverCommand::Unlock(args) => run::unlock(args).await,
    }
}

/// The word before a finding, and its colour.
fn word_of(severity: Severity) -> (&'static str, anstyle::Style) {
    match severity {
        Severity::Ok => ("  ok", GOOD),
        Severity::Warning => ("note", WARN),
        Severity::Unproven => (" ask", WARN),
        Severity::Blocker => ("stop", BAD),
    }
}

/// The configuration with everything that it names, connected as far as it goes.
pub(super) struct Site {
    pub config: CutoverConfig,
    pub provider: Arc<dyn DnsProvider>,
    pub clock: Arc<RealClock>,
    pub who: Operator,
}

impl Site {
    /// Reads the file and the credentials; asks nothing of anybody yet.
    pub async fn open(place: &PlaceArgs) -> Result<Site> {
        let config = CutoverConfig::read(&place.file)?;
        let provider = dns::connect(&config.provider).await?;
        let command = match place.file.to_str() {
            Some(FILE_NAME) => "kongferry cutover rollback".to_owned(),
            _ => format!("kongferry cutover rollback --file {}", place.file.display()),
        };
        let who = Operator::me(chrono::Utc::now(), command);
        Ok(Site { config, provider, clock: Arc::new(RealClock::start()), who })
    }

    /// What the provider holds.
    pub async fn read(&self) -> Result<Observed> {
        Ok(self.provider.read(&self.config.target).await?)
    }

    /// The journal, as far as there is one that can be read.
    pub fn entries(&self) -> Vec<Entry> {
        journal::read(&self.config.state_dir()).unwrap_or_default()
    }

    /// The name servers to ask.
    pub async fn servers(&self) -> Result<Vec<NameServer>> {
        query::name_servers(self.config.target.zone(), &self.config.settings.query).await
    }

    /// Gates and counters.
    pub fn meters(&self) -> Result<GateRunner> {
        GateRunner::new(self.config.gates.clone(), self.config.settings.prometheus.clone())
    }

    /// What an opening is made of.
    pub fn scene<'a>(&'a self, seen: &'a Observed, entries: &'a [Entry]) -> StartContext<'a> {
        use crate::cutover::clock::Clock;
        let now = self.clock.now();
        StartContext {
            config: &self.config,
            caps: self.provider.capabilities(),
            seen,
            entries,
            who: &self.who,
            now,
        }
    }

    /// The world for the engine.
    pub fn ports(
        &self,
        servers: Vec<NameServer>,
        meters: GateRunner,
        databases: Option<Arc<dyn Databases>>,
    ) -> Result<Environment> {
        let settings = &self.config.settings;
        let databases = databases.filter(|_| settings.preflight.drift);
        let (target, query) = (self.config.target.clone(), settings.query.clone());
        let servers = Authoritative::new(servers, target, query, self.provider.capabilities());
        Ok(Environment {
            clock: self.clock.clone(),
            provider: self.provider.clone(),
            servers: Arc::new(servers),
            meters: Arc::new(meters),
            outside: Arc::new(LiveIntegrations::new(
                databases,
                settings.hooks.clone(),
                settings.notify.clone(),
            )?),
        })
    }
}
