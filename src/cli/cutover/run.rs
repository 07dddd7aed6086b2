//! Commands that run the engine, here and now: they open a run, show it, and take what people say.

use std::io::IsTerminal;

use clap::Args;
use serde_json::json;
use tokio::sync::{mpsc, oneshot, watch};

use super::super::args::Format;
use super::super::text::{self, BAD, BOLD, GOOD, WARN, wrapped};
use super::consent::{consent, consent_unwatched, print_finding};
use super::manual_rollback::{by_hand, from_the_file_alone, print_by_hand};
use super::view::{self, Screen};
use super::{DatabaseArgs, PlaceArgs, Site, control_client};
use crate::cutover::config::CutoverConfig;
use crate::cutover::control::{self, Control};
use crate::cutover::engine::write::UNLOCKED;
use crate::cutover::engine::{Ended, Engine, Order};
use crate::cutover::exporter::Exporter;
use crate::cutover::gates::metrics::Metrics;
use crate::cutover::gates::runner::GateRunner;
use crate::cutover::journal::{Entry, FileJournal};
use crate::cutover::preflight::Preflight;
use crate::cutover::session::{InitialState, taken_from};
use crate::cutover::state::{Command, Phase};
use crate::cutover::status::Snapshot;
use crate::dns::{Desired, Marker, Observed, Precondition, RecordForm, Share, Ttl};
use crate::error::{Error, Kind, Result};
use crate::finding::refuse_blockers;

/// How the engine is watched.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Answer Prometheus at this ADDRESS:PORT, for the screens on the wall
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<String>,

    /// End instead of waiting for a person: with 3 when it pauses, with 0 when it has drained
    ///
    /// The records stay as they are, and nobody watches them.
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    databases: DatabaseArgs,
}

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    #[command(flatten)]
    pub watch: WatchArgs,

    /// Begin without asking
    ///
    /// What preflight cannot prove must then be taken on trust by preflight.unproven in cutover.toml, or it is refused.
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `resume`, `retry` and `undo`.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Arguments of `rollback`.
#[derive(Debug, Clone, Args)]
pub struct RollbackArgs {
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Why, for the journal and for those who are told
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,

    /// Write to the provider from here, even where an engine runs
    #[arg(long)]
    direct: bool,
}

/// Arguments of `finish`.
#[derive(Debug, Clone, Args)]
pub struct FinishArgs {
    #[command(flatten)]
    pub watch: WatchArgs,

    /// Although blue has not been still for long enough, or nobody can say whether it is
    ///
    /// The same for gates that fail or cannot be judged.
    #[arg(long)]
    force: bool,

    /// Although people have changed blue or green since the last run
    ///
    /// What stands on green then is what stays.
    #[arg(long)]
    accept_drift: bool,
}

/// Arguments of `adopt`.
#[derive(Debug, Clone, Args)]
pub struct AdoptArgs {
    #[command(flatten)]
    pub watch: WatchArgs,

    /// The provider's records say where it stands
    #[arg(long, required = true)]
    from_provider: bool,
}

/// Arguments of `unlock`.
#[derive(Debug, Clone, Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// How a run is gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
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
    let site = Site::open(&watch.place).await?;
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (seen, entries) = (site.read().await?, site.entries());
    let opening = site.scene(&seen, &entries).start()?;
    let (servers, meters) = (site.servers().await?, site.meters()?);
    let preflight = Preflight {
        config: &site.config,
        provider: site.provider.as_ref(),
        seen: &seen,
        servers: &servers,
        meters: &meters,
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
    let ports = site.ports(servers, meters, databases)?;
    Box::pin(run_engine(&site, watch, ports, opening, None)).await
}

/// `cutover resume`, `retry`, `undo`: told to the engine that runs, or done by one of our own.
pub async fn resume(args: &ResumeArgs, way: Way) -> Result<u8> {
    let watch = &args.watch;
    let site = Site::open(&watch.place).await?;
    let command = match way {
        Way::Resume => Command::Resume,
        Way::Retry => Command::Retry,
        Way::Undo => Command::Undo,
    };
    if let Some(code) = control_client::tell_running(&site, &watch.place, command).await? {
        return Ok(code);
    }
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (seen, entries) = (site.read().await?, site.entries());
    let opening = site.scene(&seen, &entries).resume(false, way == Way::Retry)?;
    say_who_was_at_work(&site, &seen);
    let goes_on = way != Way::Undo && !opening.machine.phase.is_going_back();
    consent_unwatched(&site, databases.is_some(), goes_on).await?;
    let ports = site.ports(site.servers().await?, site.meters()?, databases)?;
    let first = (way == Way::Undo).then_some(Command::Undo);
    Box::pin(run_engine(&site, watch, ports, opening, first)).await
}

/// Whose lease is over may still be at work, say paused: whoever takes over is told who it is.
fn say_who_was_at_work(site: &Site, seen: &Observed) {
    if let Some(text) = seen.marker.as_ref().and_then(|marker| taken_from(marker, &site.who)) {
        anstream::eprintln!("{WARN}note:{WARN:#} {}", wrapped(&text, 6, 2));
    }
}

/// `cutover adopt --from-provider`.
pub async fn adopt(args: &AdoptArgs) -> Result<u8> {
    let watch = &args.watch;
    let site = Site::open(&watch.place).await?;
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (seen, entries) = (site.read().await?, site.entries());
    let opening = site.scene(&seen, &entries).adopt()?;
    say_who_was_at_work(&site, &seen);
    consent_unwatched(&site, databases.is_some(), !opening.machine.phase.is_going_back()).await?;
    let ports = site.ports(site.servers().await?, site.meters()?, databases)?;
    Box::pin(run_engine(&site, watch, ports, opening, None)).await
}

/// `cutover finish`.
pub async fn finish(args: &FinishArgs) -> Result<u8> {
    let watch = &args.watch;
    let site = Site::open(&watch.place).await?;
    let command = Command::Finish { force: args.force, accept_drift: args.accept_drift };
    if let Some(code) = tell_to_finish(&site, &watch.place, command).await? {
        return Ok(code);
    }
    let databases = watch.databases.resolve(&watch.place.common)?;
    let (seen, entries) = (site.read().await?, site.entries());
    let opening = site.scene(&seen, &entries).finish(args.force, args.accept_drift)?;
    consent_unwatched(&site, databases.is_some(), opening.machine.last_looks.drift).await?;
    let ports = site.ports(site.servers().await?, site.meters()?, databases)?;
    Box::pin(run_engine(&site, watch, ports, opening, None)).await
}

/// Tells the engine that watches here, and waits for what comes of it; `None` where none does.
async fn tell_to_finish(site: &Site, place: &PlaceArgs, command: Command) -> Result<Option<u8>> {
    let Some(said) = control::tell(&site.config.state_dir(), &site.who.owner, command).await? else {
        return Ok(None);
    };
    let format = place.common.format;
    let sentence = match said {
        Ok(sentence) => sentence,
        Err(why) => {
            match format {
                Format::Json => text::print_json(&json!({ "outcome": "not_finished", "why": why })),
                Format::Text => say_not_finished(&why),
            }
            return Ok(Some(4));
        }
    };
    let finished = sentence == Phase::Finished.sentence(&site.config.steps);
    match format {
        Format::Json => text::print_json(&json!({ "outcome": "told", "command": "finish", "now": sentence })),
        Format::Text if finished => say_finished(Share::GREEN),
        Format::Text => anstream::println!("Told: finish. Now: {sentence}."),
    }
    Ok(Some(if finished { 0 } else { 3 }))
}

fn say_finished(share: Share) {
    let what = if share == Share::GREEN {
        "The records are green's, with the TTL that they shall keep. Blue can be taken down."
    } else {
        "The records are blue's as before the cutover."
    };
    anstream::println!("\n{GOOD}Finished.{GOOD:#} {}", wrapped(what, 10, 2));
}

fn say_not_finished(why: &str) {
    anstream::println!("\n{WARN}Not finished, nothing was changed:{WARN:#} {}", wrapped(why, 35, 2));
}

/// `cutover rollback`: through the engine that runs here, or straight to the provider. Nothing else is needed.
pub async fn rollback(args: &RollbackArgs) -> Result<u8> {
    let site = match Site::open(&args.place).await {
        Ok(site) => site,
        Err(error) => {
            // The file may be good, and only the credentials gone.
            if let Ok(config) = CutoverConfig::read(&args.place.file) {
                print_by_hand(from_the_file_alone(&config));
            }
            return Err(error);
        }
    };
    if !args.direct {
        let command = Command::Rollback { reason: args.reason.clone() };
        // An engine that hangs must not be in the way.
        if let Ok(Some(code)) = control_client::tell_running(&site, &args.place, command).await {
            return Ok(code);
        }
    }
    let entries = site.entries();
    let seen = read_in_any_case(&site, &entries).await?;
    let scene = site.scene(&seen, &entries);
    if scene.nothing_moved() {
        nothing_moved(args.place.common.format);
        return Ok(0);
    }
    let opening = scene.rollback(&args.reason);
    // What cannot be asked is not asked: the write counts.
    let servers = site.servers().await.unwrap_or_default();
    let meters = site.meters().or_else(|_| GateRunner::new(site.config.gates.clone(), None::<Metrics>))?;
    let ports = site.ports(servers, meters, None)?;
    let watch = WatchArgs {
        place: args.place.clone(),
        metrics_listen: None,
        no_wait: false,
        databases: DatabaseArgs::default(),
    };
    Box::pin(run_engine(&site, &watch, ports, opening, None)).await
}

fn nothing_moved(format: Format) {
    match format {
        Format::Json => text::print_json(&json!({ "outcome": "nothing_moved" })),
        Format::Text => anstream::println!(
            "{GOOD}Nothing was moved:{GOOD:#} {}",
            wrapped(
                "the records are blue's ordinary ones, and no cutover is under way. They were left as they are.",
                19,
                2
            )
        ),
    }
}

/// Reads until it works; only what will never work ends it. Nobody has to wait for that end to be told how it is done
/// by hand.
async fn read_in_any_case(site: &Site, entries: &[Entry]) -> Result<Observed> {
    let (mut tries, mut told) = (0, false);
    loop {
        let error = match site.provider.read(&site.config.target).await {
            Ok(seen) => return Ok(seen),
            Err(error) => error,
        };
        let again = error.is_temporary() && tries < 60;
        if !told && (!again || tries == 1) {
            print_by_hand(by_hand(site, entries));
            told = true;
        }
        if !again {
            return Err(error.into());
        }
        anstream::eprintln!("{WARN}again:{WARN:#} {error}");
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_secs(tries.min(5))).await;
    }
}

/// `cutover unlock`.
pub async fn unlock(args: &UnlockArgs) -> Result<u8> {
    let site = Site::open(&args.place).await?;
    let seen = site.read().await?;
    let Some(marker) = seen.marker.clone() else {
        return Err(Error::refused("no cutover is under way: there is no lease"));
    };
    let held = format!("{} since {}", marker.owner, marker.written_at.format("%Y-%m-%d %H:%M:%S UTC"));
    let note = format!("{UNLOCKED}{}", site.who.owner);
    let freed = Marker { generation: marker.generation + 1, lease_until: None, note, ..marker };
    let desired = Desired {
        form: RecordForm::AsFound,
        ttl: Ttl::AsFound,
        marker: Some(freed),
        precondition: Precondition::Unchanged,
    };
    let change = site.provider.plan(&site.config.target, &seen, &desired)?;
    site.provider.apply(&change).await?;
    match args.place.common.format {
        Format::Json => text::print_json(&json!({ "outcome": "unlocked", "was": held })),
        Format::Text => anstream::println!(
            "Unlocked. It was held by {held}; that process stops by itself if it still lives."
        ),
    }
    Ok(0)
}

/// Runs an engine to its end, with a view of it, its socket, and an ear for people.
async fn run_engine(
    site: &Site,
    args: &WatchArgs,
    ports: crate::cutover::environment::Environment,
    opening: InitialState,
    first: Option<Command>,
) -> Result<u8> {
    let dir = site.config.state_dir();
    let going_back = opening.machine.phase.is_going_back();
    let run = opening.identity.run;
    let journal = match FileJournal::open(&dir) {
        Ok(journal) => Box::new(journal) as Box<dyn crate::cutover::journal::Journal>,
        Err(error) if going_back => {
            // Nothing may be in the way of a rollback.
            text::print_error(&error);
            Box::new(NoJournal)
        }
        Err(error) => return Err(error),
    };
    let engine = Engine::new(site.config.target.clone(), ports, opening.identity, opening.machine, journal);
    let engine = if args.no_wait { engine } else { engine.until_finished() };
    let (speaker, shown) = (engine.speaker(), engine.watch());
    let control = match Control::listen(&dir, speaker.clone(), shown.clone()).await {
        Ok(control) => Some(control),
        Err(_) if going_back => None,
        Err(error) => return Err(error),
    };
    let exporter = match &args.metrics_listen {
        Some(address) => Some(Exporter::listen(address, shown.clone()).await?),
        None => None,
    };
    if let Some(exporter) = &exporter {
        tracing::warn!("Numbers for Prometheus: http://{}/metrics.", exporter.address());
    }
    if let Some(command) = first {
        let (answer, _) = oneshot::channel();
        // The engine has not begun: the channel has room.
        let _ = speaker.try_send((command, site.who.owner.clone(), answer));
    }
    let screen = Screen::of(&args.place.common);
    let view = tokio::spawn(view::show(screen, shown.clone(), speaker.clone(), site.who.owner.clone()));
    let engine = tokio::spawn(engine.run());
    let ended = tokio::select! {
        biased;
        ended = engine => ended,
        () = leave_when_paused(shown.clone(), speaker.clone(), args.no_wait) => Ok(Ended::Left),
    };
    let ended = ended.map_err(|e| Error::new(Kind::Io, "the engine stopped").source(e))?;
    if let Some(control) = control {
        control.close().await;
    }
    // The view draws the end and gives the terminal back.
    let _ = view.await;
    let last = shown.borrow().clone();
    finish_up(site, args, run, &ended, last.as_ref())
}

/// With `--no-wait`: a pause is an end.
async fn leave_when_paused(
    mut shown: watch::Receiver<Option<Snapshot>>,
    speaker: mpsc::Sender<Order>,
    no_wait: bool,
) {
    if no_wait && shown.wait_for(|shown| shown.as_ref().is_some_and(|s| s.paused.is_some())).await.is_ok() {
        let (answer, answered) = oneshot::channel();
        let _ = speaker.send((Command::Leave, "--no-wait".to_owned(), answer)).await;
        let _ = answered.await;
    }
    std::future::pending::<()>().await;
}

fn finish_up(
    site: &Site,
    args: &WatchArgs,
    run: uuid::Uuid,
    ended: &Ended,
    last: Option<&Snapshot>,
) -> Result<u8> {
    let share = last.map(|last| last.share.weight).unwrap_or_default();
    let (word, code) = match ended {
        Ended::In(Phase::RolledBack) => ("rolled_back", 3),
        Ended::In(phase) => (phase.word(), 0),
        Ended::Left if args.no_wait => ("left", 3),
        Ended::Left => ("left", 130),
        Ended::TakenOver(_) => ("taken_over", 3),
        Ended::NotFinished(_) => ("not_finished", 4),
    };
    if args.place.common.format == Format::Json {
        text::print_json(&json!({ "outcome": word, "run": run, "last": last }));
        return Ok(code);
    }
    let back = &site.who.rollback_command;
    let why = last.and_then(|last| last.why_back.clone()).unwrap_or_default();
    match ended {
        Ended::In(Phase::RolledBack) => {
            anstream::println!("\n{BAD}Rolled back.{BAD:#} {}", wrapped(&why, 13, 2));
            for line in [
                "New resolutions go to blue; a resolver that keeps answers longer than their TTL goes on with green until it lets go.",
                "Connections that were open before may stay on green until they are closed.",
                "Next: find the cause, then \"kongferry cutover retry\"; or \"kongferry cutover finish\" restores the old TTL.",
            ] {
                anstream::println!("  {}", wrapped(line, 2, 4));
            }
        }
        Ended::In(Phase::Finished) => say_finished(share),
        Ended::In(_) => {
            anstream::println!(
                "\n{GOOD}Drained.{GOOD:#} All new resolutions go to green; nobody watches them now."
            );
            say_drained_next(back);
        }
        Ended::Left if last.is_some_and(|last| last.phase == Phase::Drained) => {
            anstream::println!("\n{WARN}Left.{WARN:#} It has drained; nobody watches it now.");
            say_drained_next(back);
        }
        Ended::Left => {
            anstream::println!(
                "\n{WARN}Left.{WARN:#} The records send {share} to green, and nobody watches them."
            );
            anstream::println!("  On: kongferry cutover resume   Back: {back}");
        }
        Ended::TakenOver(by) => {
            anstream::println!(
                "\n{WARN}Taken over.{WARN:#} {by}; this process stops and has changed nothing since."
            );
        }
        Ended::NotFinished(why) => {
            say_not_finished(why);
        }
    }
    Ok(code)
}

fn say_drained_next(back: &str) {
    anstream::println!(
        "  Next: {BOLD}kongferry cutover finish{BOLD:#} restores the TTL; until then {back} goes back."
    );
}

/// A rollback without a disk.
struct NoJournal;

impl crate::cutover::journal::Journal for NoJournal {
    fn append(&mut self, _: &crate::cutover::journal::Entry) -> Result<()> {
        Ok(())
    }
}

/// Whether somebody can be asked.
pub(super) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Where an engine runs on this machine, that engine's own words.
pub(super) async fn running(site: &Site) -> Option<Snapshot> {
    control::look(&site.config.state_dir()).await.ok().flatten()
}
