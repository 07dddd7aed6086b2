//! Commands that speak to a running engine, and the status, which does without one.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BOLD, WARN, wrapped};
use super::render;
use super::view::{self, OutputMode};
use super::{ConfigFileArgs, CutoverContext};
use crate::cutover::control;
use crate::cutover::engine::write::ROLLED_BACK;
use crate::cutover::offline_status::status_from_provider;
use crate::cutover::session::active_lease;
use crate::cutover::state::{CutoverPhase, OperatorCommand};
use crate::cutover::status::StatusSnapshot;
use crate::dns::Observed;
use crate::error::{Error, Result};

/// Arguments of commands without any of their own.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,
}

/// Arguments of `promote`.
#[derive(Debug, Clone, Args)]
pub struct PromoteArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

    /// Go straight to 100 %
    #[arg(long)]
    full: bool,

    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub place: ConfigFileArgs,

    /// Follow the cutover until it ends
    #[arg(long, short)]
    watch: bool,
}

/// `cutover pause`.
pub async fn pause(args: &PauseArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    send_command(&context, &args.place, OperatorCommand::Pause).await?.ok_or_else(|| no_engine(&context))
}

/// `cutover promote`.
pub async fn promote(args: &PromoteArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    if args.full && !args.yes {
        return Err(Error::usage("promote --full sends everything to green at once")
            .remedy("Add --yes if you mean it."));
    }
    let command = OperatorCommand::Promote { full: args.full };
    send_command(&context, &args.place, command).await?.ok_or_else(|| no_engine(&context))
}

fn no_engine(context: &CutoverContext) -> Error {
    let dir = context.config.state_dir();
    Error::refused(format!("no process watches this cutover from {}", dir.display()))
        .remedy("Run the command on the machine where the cutover was started. \"kongferry cutover resume\" takes it over here; rollback works from anywhere.")
}

/// Tells the engine that runs on this machine; `None` where none does.
pub async fn send_command(
    context: &CutoverContext,
    place: &ConfigFileArgs,
    command: OperatorCommand,
) -> Result<Option<u8>> {
    let word = command.as_str();
    let Some(said) =
        control::send_command(&context.config.state_dir(), &context.operator.owner, command).await?
    else {
        return Ok(None);
    };
    match said {
        Ok(sentence) => {
            match place.common.format {
                Format::Json => {
                    text::print_json(&json!({ "outcome": "told", "command": word, "now": sentence }));
                }
                Format::Text => anstream::println!("Sent: {word}. State: {sentence}."),
            }
            Ok(Some(0))
        }
        Err(why) => Err(Error::refused(why)),
    }
}

/// `cutover status`.
pub async fn status(args: &StatusArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    if args.watch {
        return watch(&context, args).await;
    }
    let (snapshot, note) = match running_status(&context).await {
        Some(snapshot) => (snapshot, None),
        None => {
            let observed = context.read().await?;
            (offline_status(&context, &observed), unwatched(&context, &observed))
        }
    };
    match args.place.common.format {
        Format::Json => text::print_json(&snapshot.to_json()),
        Format::Text => print(&snapshot, note.as_deref()),
    }
    Ok(u8::from(snapshot.paused.is_some()) * 3)
}

/// The state from the engine on this machine; `None` where none runs.
async fn running_status(context: &CutoverContext) -> Option<StatusSnapshot> {
    control::query_status(&context.config.state_dir()).await.ok().flatten()
}

fn offline_status(context: &CutoverContext, observed: &Observed) -> StatusSnapshot {
    let rollback_command = &context.operator.rollback_command;
    status_from_provider(&context.config, &context.entries(), observed, rollback_command)
}

/// From the engine, or else from the provider and the journal.
async fn now(context: &CutoverContext) -> Result<StatusSnapshot> {
    match running_status(context).await {
        Some(snapshot) => Ok(snapshot),
        None => Ok(offline_status(context, &context.read().await?)),
    }
}

async fn watch(context: &CutoverContext, args: &StatusArgs) -> Result<u8> {
    let mut first = Some(now(context).await?);
    let (sender, status) = tokio::sync::watch::channel(first.take());
    let screen = OutputMode::of(&args.place.common);
    let follow = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            match now(context).await {
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
    let mut view = std::pin::pin!(view::follow(screen, status));
    tokio::select! {
        () = follow => {}
        () = &mut view => return Ok(0),
    }
    // Nothing more comes: the view draws the end and gives the terminal back.
    view.await;
    Ok(0)
}

/// Who watches a run that is under way, where no engine answers here.
fn unwatched(context: &CutoverContext, observed: &Observed) -> Option<String> {
    let marker = observed.marker.as_ref().filter(|marker| marker.state != ROLLED_BACK)?;
    Some(match active_lease(marker, context.operator.wall) {
        Some(held) => format!("no process answers here, but {held}."),
        None => format!("no process watches it; {BOLD}kongferry cutover resume{BOLD:#} continues it."),
    })
}

fn print(snapshot: &StatusSnapshot, note: Option<&str>) {
    let terminal = console::Term::stdout();
    let width = if terminal.is_term() { usize::from(terminal.size().1) } else { 100 };
    for line in render::render(snapshot, width) {
        anstream::println!("{line}");
    }
    let ended = matches!(snapshot.phase, CutoverPhase::Finished | CutoverPhase::RolledBack);
    if let Some(note) = note.filter(|_| !ended) {
        anstream::println!("\n{WARN}note:{WARN:#} {}", wrapped(note, 6, 2));
    }
}
