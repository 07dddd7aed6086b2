//! Commands that speak to a running engine, and the status, which does without one.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BOLD, WARN, wrapped};
use super::view::{self, Screen};
use super::{PlaceArgs, Site, run};
use crate::cutover::control;
use crate::cutover::engine::write::{LOWERED, ROLLED_BACK, STEP, stands};
use crate::cutover::journal::{What, last_phase};
use crate::cutover::session::{lease_of, skipped, why_back};
use crate::cutover::state::{Command, Goal, Pause, Phase, Stage};
use crate::cutover::status::{Happened, Shares, Snapshot};
use crate::dns::{Observed, Share};
use crate::error::{Error, Result};

/// Arguments of commands without any of their own.
#[derive(Debug, Clone, Args)]
pub struct SpeakArgs {
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// Arguments of `promote`.
#[derive(Debug, Clone, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Straight to 100 %
    #[arg(long)]
    full: bool,

    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: PlaceArgs,

    /// Stay, and show it as it goes on
    #[arg(long, short)]
    watch: bool,
}

/// `cutover pause`.
pub async fn pause(args: &SpeakArgs) -> Result<u8> {
    let site = Site::open(&args.place).await?;
    tell_running(&site, &args.place, Command::Pause).await?.ok_or_else(|| nobody(&site))
}

/// `cutover promote`.
pub async fn promote(args: &PromoteArgs) -> Result<u8> {
    let site = Site::open(&args.place).await?;
    if args.full && !args.yes {
        return Err(Error::usage("promote --full sends everything to green at once")
            .remedy("Add --yes if you mean it."));
    }
    let command = Command::Promote { full: args.full };
    tell_running(&site, &args.place, command).await?.ok_or_else(|| nobody(&site))
}

fn nobody(site: &Site) -> Error {
    let dir = site.config.state_dir();
    Error::refused(format!("no process watches this cutover from {}", dir.display()))
        .remedy("Say it where it was started. \"kongferry cutover resume\" takes it over here; rollback works from anywhere.")
}

/// Tells the engine that runs on this machine; `None` where none does.
pub async fn tell_running(site: &Site, place: &PlaceArgs, command: Command) -> Result<Option<u8>> {
    let word = command.word();
    let Some(said) = control::tell(&site.config.state_dir(), &site.who.owner, command).await? else {
        return Ok(None);
    };
    match said {
        Ok(sentence) => {
            match place.common.format {
                Format::Json => {
                    text::print_json(&json!({ "outcome": "told", "command": word, "now": sentence }));
                }
                Format::Text => anstream::println!("Told: {word}. Now: {sentence}."),
            }
            Ok(Some(0))
        }
        Err(why) => Err(Error::refused(why)),
    }
}

/// `cutover status`.
pub async fn status(args: &StatusArgs) -> Result<u8> {
    let site = Site::open(&args.place).await?;
    if args.watch {
        return watch(&site, args).await;
    }
    let (snapshot, note) = match run::running(&site).await {
        Some(snapshot) => (snapshot, None),
        None => {
            let seen = site.read().await?;
            (from_provider(&site, &seen), unwatched(&site, &seen))
        }
    };
    match args.place.common.format {
        Format::Json => text::print_json(&snapshot),
        Format::Text => print(&snapshot, note.as_deref()),
    }
    Ok(u8::from(snapshot.paused.is_some()) * 3)
}

/// From the engine, or else from the provider and the journal.
async fn now(site: &Site) -> Result<Snapshot> {
    match run::running(site).await {
        Some(snapshot) => Ok(snapshot),
        None => Ok(from_provider(site, &site.read().await?)),
    }
}

async fn watch(site: &Site, args: &StatusArgs) -> Result<u8> {
    let mut first = Some(now(site).await?);
    let (sender, shown) = tokio::sync::watch::channel(first.take());
    let screen = Screen::of(&args.place.common);
    let follow = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            match now(site).await {
                Ok(snapshot) => {
                    let over = !snapshot.watched && snapshot.phase.is_over();
                    sender.send_replace(Some(snapshot));
                    if over {
                        return;
                    }
                    // Without an engine every look is a request to the provider.
                    if sender.borrow().as_ref().is_some_and(|snapshot| !snapshot.watched) {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                }
                Err(error) => tracing::warn!("{error}."),
            }
        }
    };
    let mut view = std::pin::pin!(view::look_on(screen, shown));
    tokio::select! {
        () = follow => {}
        () = &mut view => return Ok(0),
    }
    // Nothing more comes: the view draws the end and gives the terminal back.
    view.await;
    Ok(0)
}

/// What can be said without an engine: the provider holds the truth, the journal what happened last.
pub fn from_provider(site: &Site, seen: &Observed) -> Snapshot {
    let (config, marker) = (&site.config, seen.marker.as_ref());
    let run = marker.map(|marker| marker.run).unwrap_or_default();
    let entries = site.entries();
    let ours = || entries.iter().filter(|entry| marker.is_none() || entry.run == run);
    let events: Vec<Happened> = ours()
        .filter_map(|entry| match &entry.what {
            What::Said { said } => Some(Happened { at: entry.at, said: said.clone() }),
            _ => None,
        })
        .collect();
    let journaled = match marker.and_then(|_| last_phase(&entries, run)) {
        Some(What::Phase { now, paused, .. }) => Some((*now, paused.clone())),
        _ => None,
    };
    let share = seen.share();
    let unmarked = share.filter(|share| marker.is_none() && ![Share::BLUE, Share::GREEN].contains(share));
    let phase = phase_of(seen, journaled.as_ref().map(|(phase, _)| *phase), config);
    let strange = marker.is_some_and(|marker| share != Some(marker.share)) || share.is_none();
    let paused = if let Some(share) = unmarked {
        let reason =
            format!("{share} to green, and nobody left a marker: \"adopt --from-provider\" or \"rollback\"");
        Some(Pause { code: "changed".to_owned(), reason })
    } else if strange {
        Some(Pause { code: "changed".to_owned(), reason: format!("at the provider stands {}", stands(seen)) })
    } else {
        journaled.and_then(|(_, paused)| paused).filter(|_| marker.is_some() && !phase.is_over())
    };
    Snapshot {
        format: 1,
        run,
        records: config.target.records().iter().map(|record| record.key.to_string()).collect(),
        state: match (marker, paused.is_some()) {
            (None, false) if phase == Phase::Ready => "not_started".to_owned(),
            (_, true) => "paused".to_owned(),
            _ => phase.word().to_owned(),
        },
        phase,
        sentence: match marker {
            _ if unmarked.is_some() => "split, and nobody left a marker".to_owned(),
            None if phase == Phase::Ready => "not begun, all traffic goes to blue".to_owned(),
            _ => phase.sentence(&config.steps),
        },
        paused,
        why_back: marker
            .filter(|_| matches!(phase, Phase::RolledBack))
            .map(|marker| why_back(&entries, marker)),
        steps: config.steps.clone(),
        step: phase.step(),
        skipped: marker.map(|marker| skipped(&entries, marker, &config.steps)).unwrap_or_default(),
        share: Shares { weight: share.unwrap_or_default(), by_queries: None, by_counters: None },
        seconds_left: None,
        seconds_in_stage: 0.0,
        gates: Vec::new(),
        traffic: None,
        events: events.into_iter().rev().take(8).rev().collect(),
        owner: marker.map(|marker| marker.owner.clone()).unwrap_or_default(),
        at: chrono::Utc::now(),
        watched: false,
        rollback_command: site.who.rollback_command.clone(),
        manual_command: None,
    }
}

fn phase_of(
    seen: &Observed,
    journaled: Option<Phase>,
    config: &crate::cutover::config::CutoverConfig,
) -> Phase {
    let Some(marker) = &seen.marker else {
        return if seen.share() == Some(Share::GREEN) { Phase::Finished } else { Phase::Ready };
    };
    match marker.state.as_str() {
        ROLLED_BACK => Phase::RolledBack,
        LOWERED => Phase::Moving { goal: Goal::Lower, stage: Stage::Baking },
        STEP if marker.share == Share::GREEN
            && matches!(journaled, Some(Phase::Draining | Phase::Drained)) =>
        {
            journaled.unwrap_or(Phase::Draining)
        }
        _ => {
            let index = usize::try_from(marker.step).unwrap_or(0).min(config.steps.len().saturating_sub(1));
            let stage = journaled.and_then(Phase::stage).unwrap_or(Stage::Baking);
            Phase::Moving { goal: Goal::Step(index), stage }
        }
    }
}

/// Who watches a run that is under way, where no engine answers here.
fn unwatched(site: &Site, seen: &Observed) -> Option<String> {
    let marker = seen.marker.as_ref().filter(|marker| marker.state != ROLLED_BACK)?;
    Some(match lease_of(marker, site.who.wall) {
        Some(held) => format!("no process answers here, but {held}."),
        None => format!("nobody watches it; {BOLD}kongferry cutover resume{BOLD:#} goes on."),
    })
}

fn print(snapshot: &Snapshot, note: Option<&str>) {
    let terminal = console::Term::stdout();
    let width = if terminal.is_term() { usize::from(terminal.size().1) } else { 100 };
    for line in view::render(snapshot, width) {
        anstream::println!("{line}");
    }
    let ended = matches!(snapshot.phase, Phase::Finished | Phase::RolledBack);
    if let Some(note) = note.filter(|_| !ended) {
        anstream::println!("\n{WARN}note:{WARN:#} {}", wrapped(note, 6, 2));
    }
}
