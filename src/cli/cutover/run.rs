//! Commands that run the engine in this process: they start or resume a run and follow it.

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
use crate::cutover::engine::write::UNLOCKED;
use crate::cutover::engine::{CommandRequest, Engine, EngineOutcome};
use crate::cutover::exporter::Exporter;
use crate::cutover::gates::metrics::PrometheusConfig;
use crate::cutover::gates::runner::GateRunner;
use crate::cutover::journal::{FileJournal, JournalEntry};
use crate::cutover::preflight::Preflight;
use crate::cutover::session::{InitialState, previous_owner};
use crate::cutover::state::{CutoverPhase, OperatorCommand};
use crate::cutover::status::StatusSnapshot;
use crate::dns::{Desired, Marker, Observed, Precondition, RecordForm, Share, Ttl};
use crate::error::{Error, Kind, Result};
use crate::finding::refuse_blockers;

/// How the engine is watched.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

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

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub watch: EngineArgs,

    /// Start without confirmation
    ///
    /// What preflight cannot prove must then be accepted by preflight.unproven in cutover.toml; otherwise start refuses.
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `resume`, `retry` and `undo`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub watch: EngineArgs,
}

/// Arguments of `rollback`.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

    /// Reason, for the journal and the notifications
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,

    /// Write to the provider directly, even if a process runs the cutover
    #[arg(long)]
    direct: bool,
}

/// Arguments of `finish`.
#[derive(Debug, Clone, Args)]
pub struct FinishArgs {
    #[command(flatten)]
    pub watch: EngineArgs,

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

/// Arguments of `adopt`.
#[derive(Debug, Clone, Args)]
pub struct AdoptArgs {
    #[command(flatten)]
    pub watch: EngineArgs,

    /// Read the state from the provider's records
    #[arg(long, required = true)]
    from_provider: bool,
}

/// Arguments of `unlock`.
#[derive(Debug, Clone, Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,
}

/// How a run is continued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeMode {
    /// From where it stands.
    Resume,
    /// The step anew, or everything after a rollback.
    Retry,
    /// One step back.
    Undo,
}

/// `cutover start`.
pub async fn start(args: &StartArgs) -> Result<u8> {
    let watch = &args.watch;
    let context = CutoverContext::open(&watch.place).await?;
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = context.start_context(&observed, &entries).start()?;
    let (servers, health) = (context.servers().await?, context.health()?);
    let preflight = Preflight {
        config: &context.config,
        provider: context.provider.as_ref(),
        observed: &observed,
        servers: &servers,
        health: &health,
        databases: databases.as_deref(),
    };
    let format = watch.place.common.format;
    let findings = preflight.run(&mut |finding| print_finding(finding, format)).await;
    refuse_blockers(&findings)?;
    consent(args.yes, &findings).await?;
    let rehearsal = preflight.rehearsal().await;
    print_finding(&rehearsal, format);
    refuse_blockers(&[rehearsal])?;
    // The rehearsal may have changed what the provider calls its version.
    let environment = context.environment(servers, health, databases)?;
    Box::pin(run_engine(&context, watch, environment, initial, None)).await
}

/// `cutover resume`, `retry`, `undo`: told to the engine that runs, or done by one of our own.
pub async fn resume(args: &ResumeArgs, way: ResumeMode) -> Result<u8> {
    let watch = &args.watch;
    let context = CutoverContext::open(&watch.place).await?;
    let command = match way {
        ResumeMode::Resume => OperatorCommand::Resume,
        ResumeMode::Retry => OperatorCommand::Retry,
        ResumeMode::Undo => OperatorCommand::Undo,
    };
    if let Some(code) = control_client::send_command(&context, &watch.place, command).await? {
        return Ok(code);
    }
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = context.start_context(&observed, &entries).resume(false, way == ResumeMode::Retry)?;
    note_previous_owner(&context, &observed);
    let goes_on = way != ResumeMode::Undo && !initial.machine.phase.is_going_back();
    consent_without_databases(&context, databases.is_some(), goes_on).await?;
    let environment = context.environment(context.servers().await?, context.health()?, databases)?;
    let first = (way == ResumeMode::Undo).then_some(OperatorCommand::Undo);
    Box::pin(run_engine(&context, watch, environment, initial, first)).await
}

/// The process whose lease has expired may be running, for example paused: the operator learns who owns it.
fn note_previous_owner(context: &CutoverContext, observed: &Observed) {
    if let Some(text) = observed.marker.as_ref().and_then(|marker| previous_owner(marker, &context.operator))
    {
        anstream::eprintln!("{WARN}note:{WARN:#} {}", wrapped(&text, 6, 2));
    }
}

/// `cutover adopt --from-provider`.
pub async fn adopt(args: &AdoptArgs) -> Result<u8> {
    let watch = &args.watch;
    let context = CutoverContext::open(&watch.place).await?;
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = context.start_context(&observed, &entries).adopt()?;
    note_previous_owner(&context, &observed);
    consent_without_databases(&context, databases.is_some(), !initial.machine.phase.is_going_back()).await?;
    let environment = context.environment(context.servers().await?, context.health()?, databases)?;
    Box::pin(run_engine(&context, watch, environment, initial, None)).await
}

/// `cutover finish`.
pub async fn finish(args: &FinishArgs) -> Result<u8> {
    let watch = &args.watch;
    let context = CutoverContext::open(&watch.place).await?;
    let command = OperatorCommand::Finish { force: args.force, accept_drift: args.accept_drift };
    if let Some(code) = send_finish(&context, &watch.place, command).await? {
        return Ok(code);
    }
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (observed, entries) = (context.read().await?, context.entries());
    let initial = context.start_context(&observed, &entries).finish(args.force, args.accept_drift)?;
    consent_without_databases(&context, databases.is_some(), initial.machine.finish_checks.drift).await?;
    let environment = context.environment(context.servers().await?, context.health()?, databases)?;
    Box::pin(run_engine(&context, watch, environment, initial, None)).await
}

/// Tells the engine that watches here, and waits for what comes of it; `None` where none does.
async fn send_finish(
    context: &CutoverContext,
    place: &ConfigFileArgs,
    command: OperatorCommand,
) -> Result<Option<u8>> {
    let Some(said) =
        control::send_command(&context.config.state_dir(), &context.operator.owner, command).await?
    else {
        return Ok(None);
    };
    let format = place.common.format;
    let sentence = match said {
        Ok(sentence) => sentence,
        Err(why) => {
            match format {
                Format::Json => text::print_json(&json!({ "outcome": "not_finished", "why": why })),
                Format::Text => print_not_finished(&why),
            }
            return Ok(Some(4));
        }
    };
    let finished = sentence == CutoverPhase::Finished.sentence(&context.config.steps);
    match format {
        Format::Json => text::print_json(&json!({ "outcome": "told", "command": "finish", "now": sentence })),
        Format::Text if finished => print_finished(Share::GREEN),
        Format::Text => anstream::println!("Sent: finish. State: {sentence}."),
    }
    Ok(Some(if finished { 0 } else { 3 }))
}

/// `cutover rollback`: through the engine that runs here, or straight to the provider. Nothing else is needed.
pub async fn rollback(args: &RollbackArgs) -> Result<u8> {
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
        is_unmoved(args.place.common.format);
        return Ok(0);
    }
    let initial = start_context.rollback(&args.reason);
    // What cannot be asked is not asked: the write counts.
    let servers = context.servers().await.unwrap_or_default();
    let health = context
        .health()
        .or_else(|_| GateRunner::new(context.config.gates.clone(), None::<PrometheusConfig>))?;
    let environment = context.environment(servers, health, None)?;
    let watch = EngineArgs {
        place: args.place.clone(),
        metrics_listen: None,
        no_wait: false,
        databases: DatabaseArgs::default(),
    };
    Box::pin(run_engine(&context, &watch, environment, initial, None)).await
}

fn is_unmoved(format: Format) {
    match format {
        Format::Json => text::print_json(&json!({ "outcome": "nothing_moved" })),
        Format::Text => anstream::println!(
            "{GOOD}Nothing was moved:{GOOD:#} {}",
            wrapped(
                "the records are plain records of blue, and no cutover is under way. They were left unchanged.",
                19,
                2
            )
        ),
    }
}

/// Reads the records, with retries for as long as the error may be temporary. The commands for a manual rollback are
/// printed after the first retry, without waiting for the end.
async fn read_with_retries(context: &CutoverContext, entries: &[JournalEntry]) -> Result<Observed> {
    let (mut tries, mut told) = (0, false);
    loop {
        let error = match context.provider.read(&context.config.target).await {
            Ok(observed) => return Ok(observed),
            Err(error) => error,
        };
        let again = error.is_temporary() && tries < 60;
        if !told && (!again || tries == 1) {
            print_manual_rollback(manual_rollback(context, entries));
            told = true;
        }
        if !again {
            return Err(error.into());
        }
        anstream::eprintln!("{WARN}retry:{WARN:#} {error}");
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_secs(tries.min(5))).await;
    }
}

/// `cutover unlock`.
pub async fn unlock(args: &UnlockArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    let observed = context.read().await?;
    let Some(marker) = observed.marker.clone() else {
        return Err(Error::refused("no cutover is under way: there is no lease"));
    };
    let held = format!("{} since {}", marker.owner, marker.written_at.format("%Y-%m-%d %H:%M:%S UTC"));
    let note = format!("{UNLOCKED}{}", context.operator.owner);
    let freed = Marker { generation: marker.generation + 1, lease_until: None, note, ..marker };
    let desired = Desired {
        form: RecordForm::AsFound,
        ttl: Ttl::AsFound,
        marker: Some(freed),
        precondition: Precondition::Unchanged,
    };
    let change = context.provider.plan(&context.config.target, &observed, &desired)?;
    context.provider.apply(&change).await?;
    match args.place.common.format {
        Format::Json => text::print_json(&json!({ "outcome": "unlocked", "was": held })),
        Format::Text => {
            anstream::println!("Unlocked. It was held by {held}; that process stops if it is running.");
        }
    }
    Ok(0)
}

/// Runs an engine to its end, with its view and its control socket.
async fn run_engine(
    context: &CutoverContext,
    args: &EngineArgs,
    environment: crate::cutover::environment::Environment,
    initial: InitialState,
    first: Option<OperatorCommand>,
) -> Result<u8> {
    let dir = context.config.state_dir();
    let going_back = initial.machine.phase.is_going_back();
    let run = initial.identity.run;
    let journal = match FileJournal::open(&dir) {
        Ok(journal) => Box::new(journal) as Box<dyn crate::cutover::journal::CutoverJournal>,
        Err(error) if going_back => {
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
        Err(_) if going_back => None,
        Err(error) => return Err(error),
    };
    let exporter = match &args.metrics_listen {
        Some(address) => Some(Exporter::listen(address, status.clone()).await?),
        None => None,
    };
    if let Some(exporter) = &exporter {
        tracing::warn!("Numbers for Prometheus: http://{}/metrics.", exporter.address());
    }
    if let Some(command) = first {
        let (answer, _) = oneshot::channel();
        // The engine has not started: the channel is empty.
        let _ = command_sender.try_send((command, context.operator.owner.clone(), answer));
    }
    let screen = OutputMode::of(&args.place.common);
    let view = tokio::spawn(view::show(
        screen,
        status.clone(),
        command_sender.clone(),
        context.operator.owner.clone(),
    ));
    let engine = tokio::spawn(engine.run());
    let ended = tokio::select! {
        biased;
        ended = engine => ended,
        () = leave_when_paused(status.clone(), command_sender.clone(), args.no_wait) => Ok(EngineOutcome::Left),
    };
    let ended = ended.map_err(|e| Error::new(Kind::Io, "the engine stopped").source(e))?;
    if let Some(control) = control {
        control.close().await;
    }
    // The view draws the end and gives the terminal back.
    let _ = view.await;
    let last = status.borrow().clone();
    Ok(print_outcome(context, args.place.common.format, args.no_wait, run, &ended, last.as_ref()))
}

/// With `--no-wait`: a pause is an end.
async fn leave_when_paused(
    mut status: watch::Receiver<Option<StatusSnapshot>>,
    command_sender: mpsc::Sender<CommandRequest>,
    no_wait: bool,
) {
    if no_wait && status.wait_for(|status| status.as_ref().is_some_and(|s| s.paused.is_some())).await.is_ok()
    {
        let (answer, answered) = oneshot::channel();
        let _ = command_sender.send((OperatorCommand::Leave, "--no-wait".to_owned(), answer)).await;
        let _ = answered.await;
    }
    std::future::pending::<()>().await;
}

/// A rollback without a disk.
struct NoJournal;

impl crate::cutover::journal::CutoverJournal for NoJournal {
    fn append(&mut self, _: &crate::cutover::journal::JournalEntry) -> Result<()> {
        Ok(())
    }
}
