//! Commands that run the engine in this process: they start or continue a run and follow it.

use std::time::Duration;

use clap::Args;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::args::Format;
use super::super::text::{self, GOOD, WARN, wrapped};
use super::consent::{consent, consent_without_databases, print_finding};
use super::manual_rollback::{manual_rollback, print_manual_rollback, rollback_from_config};
use super::outcome::{print_finished, print_not_finished, print_outcome};
use super::view::{self, OutputMode};
use super::{ConfigFileArgs, CutoverContext, DatabaseArgs, control_client};
use crate::cutover::config::CutoverConfig;
use crate::cutover::control::{self, Control};
use crate::cutover::engine::{self, CommandRequest, Engine, EngineOutcome};
use crate::cutover::environment::Environment;
use crate::cutover::exporter::Exporter;
use crate::cutover::gates::runner::GateRunner;
use crate::cutover::journal::{CutoverJournal, FileJournal, JournalEntry};
use crate::cutover::marker::{UNLOCKED, utc};
use crate::cutover::session::{InitialState, StartContext, previous_owner};
use crate::cutover::state::{CutoverPhase, OperatorCommand};
use crate::cutover::status::StatusSnapshot;
use crate::dns::{Desired, Marker, Observed, Precondition, RecordForm, Share, Ttl};
use crate::error::{Error, Kind, Result};
use crate::finding::refuse_blockers;

/// How often a rollback reads the records again while the provider's error may be temporary.
const READ_RETRIES: u64 = 60;

#[derive(Debug, Clone, Args)]
pub(super) struct EngineArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Serve Prometheus metrics on ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,

    /// Exit instead of waiting for an operator
    ///
    /// Exits with 3 when the cutover pauses and with 0 when it has drained. The records stay as they are, and no process
    /// watches them.
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    databases: DatabaseArgs,
}

#[derive(Debug, Clone, Args)]
pub(super) struct StartArgs {
    #[command(flatten)]
    pub(super) engine: EngineArgs,

    /// Start without confirmation
    ///
    /// What preflight cannot prove must then be accepted by preflight.unproven in cutover.toml; otherwise start refuses.
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Reason, for the journal and the notifications
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,

    /// Bypass a running cutover process
    ///
    /// This process writes the rollback to the provider.
    #[arg(long)]
    direct: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct FinishArgs {
    #[command(flatten)]
    pub(super) engine: EngineArgs,

    /// Finish even if traffic on blue has not stopped or cannot be counted
    ///
    /// The same applies to gates that fail or are inconclusive.
    #[arg(long)]
    force: bool,

    /// Finish even if blue or green was changed since the last run
    ///
    /// Changes by Admin API clients count. Green stays as it is.
    #[arg(long)]
    accept_drift: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct AdoptArgs {
    #[command(flatten)]
    pub(super) engine: EngineArgs,

    /// Read the state from the provider's records
    #[arg(long, required = true)]
    from_provider: bool,
}

/// `cutover start`.
pub(super) async fn start(args: &StartArgs) -> Result<u8> {
    let StartArgs { engine: args, yes } = args;
    let context = CutoverContext::open(&args.place).await?;
    let databases = args.databases.resolve(&args.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = context.start_context(&observed, &entries).start()?;
    let (servers, health) = (context.servers().await?, context.health()?);
    let preflight = context.preflight(&observed, &servers, &health, databases.as_deref());
    let format = args.place.common.format;
    let findings = preflight.run(&mut |finding| print_finding(finding, format)).await;
    refuse_blockers(&findings)?;
    consent(*yes, &findings).await?;
    let rehearsal = preflight.rehearsal().await;
    print_finding(&rehearsal, format);
    refuse_blockers(&[rehearsal])?;
    let environment = context.environment(servers, health, databases);
    Box::pin(run_engine(&context, args, environment, initial, None)).await
}

/// `cutover resume`, `retry`, `undo`: by the engine that runs on this machine, or by one of its own.
pub(super) async fn resume(args: &EngineArgs, command: OperatorCommand) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    if let Some(code) = control_client::send_command(&context, &args.place, command.clone()).await? {
        return Ok(code);
    }
    let (retry, undo) = (command == OperatorCommand::Retry, command == OperatorCommand::Undo);
    let first = undo.then_some(command);
    Box::pin(continue_run(&context, args, first, |start| start.resume(false, retry))).await
}

/// `cutover adopt --from-provider`.
pub(super) async fn adopt(args: &AdoptArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.engine.place).await?;
    Box::pin(continue_run(&context, &args.engine, None, |start| start.adopt())).await
}

/// `cutover finish`.
pub(super) async fn finish(args: &FinishArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.engine.place).await?;
    let (force, accept_drift) = (args.force, args.accept_drift);
    let command = OperatorCommand::Finish { force, accept_drift };
    if let Some(code) = send_finish(&context, &args.engine.place, command).await? {
        return Ok(code);
    }
    Box::pin(continue_run(&context, &args.engine, None, |start| start.finish(force, accept_drift))).await
}

/// Continues a run in this process, from where `begin` finds it.
async fn continue_run(
    context: &CutoverContext,
    args: &EngineArgs,
    first: Option<OperatorCommand>,
    begin: impl FnOnce(&StartContext<'_>) -> Result<InitialState>,
) -> Result<u8> {
    let databases = args.databases.resolve(&args.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = begin(&context.start_context(&observed, &entries))?;
    if let Some(text) = observed.marker.as_ref().and_then(|marker| previous_owner(marker, &context.operator))
    {
        anstream::eprintln!("{WARN}note:{WARN:#} {}", wrapped(&text, 6, 2));
    }
    let checks_drift = first != Some(OperatorCommand::Undo) && initial.machine.checks_drift();
    consent_without_databases(context, databases.is_some(), checks_drift).await?;
    let environment = context.environment(context.servers().await?, context.health()?, databases);
    Box::pin(run_engine(context, args, environment, initial, first)).await
}

/// Sends `finish` to the engine on this machine and prints its result; `None` if none runs.
async fn send_finish(
    context: &CutoverContext,
    place: &ConfigFileArgs,
    command: OperatorCommand,
) -> Result<Option<u8>> {
    let dir = context.config.state_dir();
    let Some(result) = control::send_command(&dir, &context.operator.owner, command).await? else {
        return Ok(None);
    };
    let is_json = place.common.format == Format::Json;
    match result {
        Err(reason) if is_json => {
            text::print_json(&json!({ "outcome": "not_finished", "why": reason }));
            Ok(Some(4))
        }
        Err(reason) => {
            print_not_finished(&reason);
            Ok(Some(4))
        }
        Ok(sentence) => {
            let is_finished = sentence == CutoverPhase::Finished.sentence(&context.config.steps);
            if is_finished && !is_json {
                print_finished(Share::GREEN);
            } else {
                control_client::print_sent(place, "finish", &sentence);
            }
            Ok(Some(if is_finished { 0 } else { 3 }))
        }
    }
}

/// `cutover rollback`: by the engine that runs on this machine, or directly at the provider. Nothing else is needed.
pub(super) async fn rollback(args: &RollbackArgs) -> Result<u8> {
    let context = match CutoverContext::open(&args.place).await {
        Ok(context) => context,
        Err(error) => {
            // The file may be valid and only the credentials missing.
            if let Ok(config) = CutoverConfig::read(&args.place.file) {
                print_manual_rollback(rollback_from_config(&config));
            }
            return Err(error);
        }
    };
    if !args.direct {
        let command = OperatorCommand::Rollback { reason: args.reason.clone() };
        // A process that hangs must not prevent the rollback.
        if let Ok(Some(code)) = control_client::send_command(&context, &args.place, command).await {
            return Ok(code);
        }
    }
    let entries = context.entries();
    let observed = read_with_retries(&context, &entries).await?;
    let start_context = context.start_context(&observed, &entries);
    if start_context.is_unmoved() {
        print_nothing_moved(args.place.common.format);
        return Ok(0);
    }
    let initial = start_context.rollback(&args.reason);
    // The write counts: without name servers or Prometheus they are not queried.
    let servers = context.servers().await.unwrap_or_default();
    let health = context.health().or_else(|_| GateRunner::new(context.config.gates.clone(), None))?;
    let environment = context.environment(servers, health, None);
    let engine_args = EngineArgs {
        place: args.place.clone(),
        metrics_listen: None,
        no_wait: false,
        databases: DatabaseArgs::default(),
    };
    Box::pin(run_engine(&context, &engine_args, environment, initial, None)).await
}

fn print_nothing_moved(format: Format) {
    let text =
        "the records are plain records of blue, and no cutover is under way. They were left unchanged.";
    match format {
        Format::Json => text::print_json(&json!({ "outcome": "nothing_moved" })),
        Format::Text => anstream::println!("{GOOD}Nothing was moved:{GOOD:#} {}", wrapped(text, 19, 2)),
    }
}

/// Reads the records, with retries for as long as the error may be temporary. The command of the manual rollback is
/// printed after the first retry, not only at the end.
async fn read_with_retries(context: &CutoverContext, entries: &[JournalEntry]) -> Result<Observed> {
    let (mut retries, mut is_printed) = (0, false);
    loop {
        let error = match context.provider.read(&context.config.target).await {
            Ok(observed) => return Ok(observed),
            Err(error) => error,
        };
        let retry = error.is_temporary() && retries < READ_RETRIES;
        if !is_printed && (!retry || retries == 1) {
            print_manual_rollback(manual_rollback(context, entries));
            is_printed = true;
        }
        if !retry {
            return Err(error.into());
        }
        anstream::eprintln!("{WARN}retry:{WARN:#} {error}");
        retries += 1;
        tokio::time::sleep(Duration::from_secs(retries.min(5))).await;
    }
}

/// `cutover unlock`.
pub(super) async fn unlock(place: &ConfigFileArgs) -> Result<u8> {
    let context = CutoverContext::open(place).await?;
    let observed = context.read().await?;
    let Some(marker) = observed.marker.clone() else {
        return Err(Error::refused("no cutover is under way: there is no lease to release"));
    };
    let holder = format!("{} since {}", marker.owner, utc(marker.written_at));
    let note = format!("{UNLOCKED}{}", context.operator.owner);
    let released = Marker { generation: marker.generation + 1, lease_until: None, note, ..marker };
    let desired = Desired {
        form: RecordForm::AsFound,
        ttl: Ttl::AsFound,
        marker: Some(released),
        precondition: Precondition::Unchanged,
    };
    let change = context.provider.plan(&context.config.target, &observed, &desired)?;
    context.provider.apply(&change).await?;
    match place.common.format {
        Format::Json => text::print_json(&json!({ "outcome": "unlocked", "was": holder })),
        Format::Text => {
            anstream::println!(
                "Lease released. It was held by {holder}; that process stops if it is running."
            );
        }
    }
    Ok(0)
}

/// Runs an engine to its end, with its view and its control socket.
async fn run_engine(
    context: &CutoverContext,
    args: &EngineArgs,
    environment: Environment,
    initial: InitialState,
    first: Option<OperatorCommand>,
) -> Result<u8> {
    let dir = context.config.state_dir();
    let is_going_back = initial.machine.phase.is_going_back();
    let run = initial.identity.run;
    let journal: Box<dyn CutoverJournal> = match FileJournal::open(&dir) {
        Ok(journal) => Box::new(journal),
        Err(error) if is_going_back => {
            // A rollback does not depend on the journal.
            text::print_error(&error);
            Box::new(NoJournal)
        }
        Err(error) => return Err(error),
    };
    let engine =
        Engine::new(context.config.target.clone(), environment, initial.identity, initial.machine, journal);
    let engine = if args.no_wait { engine } else { engine.until_finished() };
    let (command_sender, status) = (engine.command_sender(), engine.watch());
    let control = match Control::listen(&dir, command_sender.clone(), status.clone()).await {
        Ok(control) => Some(control),
        Err(_) if is_going_back => None,
        Err(error) => return Err(error),
    };
    let exporter = match &args.metrics_listen {
        Some(address) => Some(Exporter::listen(address, status.clone()).await?),
        None => None,
    };
    if let Some(exporter) = &exporter {
        tracing::warn!("Prometheus metrics: http://{}/metrics.", exporter.address());
    }
    let owner = context.operator.owner.clone();
    if let Some(command) = first {
        let (reply, _) = oneshot::channel();
        // The engine has not started: the channel is empty.
        let _ = command_sender.try_send((command, owner.clone(), reply));
    }
    let mode = OutputMode::of(&args.place.common);
    let view = tokio::spawn(view::show(mode, status.clone(), command_sender.clone(), owner));
    let engine = tokio::spawn(engine.run());
    let outcome = tokio::select! {
        biased;
        outcome = engine => outcome,
        () = leave_when_paused(status.clone(), command_sender, args.no_wait) => Ok(EngineOutcome::Left),
    };
    let outcome = outcome.map_err(|e| {
        Error::new(Kind::Io, "the cutover process stopped unexpectedly; the records are as last written")
            .source(e)
            .remedy("Run \"kongferry cutover status\", then \"resume\" or \"rollback\".")
    })?;
    if let Some(control) = control {
        control.close().await;
    }
    // The view draws the end and restores the terminal.
    let _ = view.await;
    let last = status.borrow().clone();
    Ok(print_outcome(context, args.place.common.format, args.no_wait, run, &outcome, last.as_ref()))
}

/// With `--no-wait` a pause ends the process.
async fn leave_when_paused(
    mut status: watch::Receiver<Option<StatusSnapshot>>,
    command_sender: mpsc::Sender<CommandRequest>,
    no_wait: bool,
) {
    let is_paused =
        |status: &Option<StatusSnapshot>| status.as_ref().is_some_and(|status| status.paused.is_some());
    if no_wait && status.wait_for(is_paused).await.is_ok() {
        engine::send_command(&command_sender, OperatorCommand::Leave, "--no-wait").await;
    }
    std::future::pending::<()>().await;
}

/// For a rollback whose journal cannot be written.
struct NoJournal;

impl CutoverJournal for NoJournal {
    fn append(&mut self, _: &JournalEntry) -> Result<()> {
        Ok(())
    }
}
