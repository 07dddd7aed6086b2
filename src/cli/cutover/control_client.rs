//! Commands to a running engine, and the status, which needs none.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BOLD, WARN, wrapped};
use super::render;
use super::view::{self, OutputMode};
use super::{ConfigFileArgs, CutoverContext};
use crate::cutover::control;
use crate::cutover::marker::ROLLED_BACK;
use crate::cutover::offline_status::status_from_provider;
use crate::cutover::session::active_lease;
use crate::cutover::state::{CutoverPhase, OperatorCommand};
use crate::cutover::status::StatusSnapshot;
use crate::dns::Observed;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Args)]
pub(super) struct PromoteArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Go straight to 100 %
    #[arg(long)]
    full: bool,

    /// Do not ask for confirmation
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct CutoverStatusArgs {
    #[command(flatten)]
    pub(super) place: ConfigFileArgs,

    /// Follow the cutover until it ends
    #[arg(long, short)]
    watch: bool,
}

/// `cutover pause`.
pub(super) async fn pause(place: &ConfigFileArgs) -> Result<u8> {
    let context = CutoverContext::open(place).await?;
    send_command(&context, place, OperatorCommand::Pause).await?.ok_or_else(|| no_engine(&context))
}

/// `cutover promote`.
pub(super) async fn promote(args: &PromoteArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    if args.full && !args.yes {
        return Err(
            Error::usage("promote --full sends everything to green at once").remedy("Pass --yes to confirm.")
        );
    }
    let command = OperatorCommand::Promote { full: args.full };
    send_command(&context, &args.place, command).await?.ok_or_else(|| no_engine(&context))
}

fn no_engine(context: &CutoverContext) -> Error {
    let dir = context.config.state_dir();
    Error::refused(format!("no process watches this cutover from {}", dir.display()))
        .remedy("Run the command on the machine that runs the cutover, or run \"kongferry cutover resume\" to take it over here. A rollback works from any machine.")
}

/// Sends a command to the engine on this machine; `None` if none runs.
pub(super) async fn send_command(
    context: &CutoverContext,
    place: &ConfigFileArgs,
    command: OperatorCommand,
) -> Result<Option<u8>> {
    let word = command.as_str();
    let dir = context.config.state_dir();
    match control::send_command(&dir, &context.operator.owner, command).await? {
        None => Ok(None),
        Some(Ok(sentence)) => {
            print_sent(place, word, &sentence);
            Ok(Some(0))
        }
        Some(Err(reason)) => Err(Error::refused(reason)),
    }
}

pub(super) fn print_sent(place: &ConfigFileArgs, command: &str, sentence: &str) {
    match place.common.format {
        Format::Json => {
            text::print_json(&json!({ "outcome": "told", "command": command, "now": sentence }));
        }
        Format::Text => anstream::println!("Sent: {command}. State: {sentence}."),
    }
}

/// `cutover status`.
pub(super) async fn status(args: &CutoverStatusArgs) -> Result<u8> {
    let context = CutoverContext::open(&args.place).await?;
    if args.watch {
        return watch(&context, args).await;
    }
    let (snapshot, note) = match running_status(&context).await {
        Some(snapshot) => (snapshot, None),
        None => {
            let observed = context.read().await?;
            (offline_status(&context, &observed), unwatched_note(&context, &observed))
        }
    };
    match args.place.common.format {
        Format::Json => text::print_json(&snapshot.to_json()),
        Format::Text => print(&snapshot, note.as_deref()),
    }
    Ok(u8::from(snapshot.paused.is_some()) * 3)
}

/// The state from the engine on this machine; `None` if none runs.
async fn running_status(context: &CutoverContext) -> Option<StatusSnapshot> {
    control::query_status(&context.config.state_dir()).await.ok().flatten()
}

fn offline_status(context: &CutoverContext, observed: &Observed) -> StatusSnapshot {
    let rollback_command = &context.operator.rollback_command;
    status_from_provider(&context.config, &context.entries(), observed, rollback_command)
}

/// From the engine, or else from the provider and the journal.
async fn current_status(context: &CutoverContext) -> Result<StatusSnapshot> {
    match running_status(context).await {
        Some(snapshot) => Ok(snapshot),
        None => Ok(offline_status(context, &context.read().await?)),
    }
}

async fn watch(context: &CutoverContext, args: &CutoverStatusArgs) -> Result<u8> {
    let (sender, status) = tokio::sync::watch::channel(Some(current_status(context).await?));
    let refresh = async move {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            match current_status(context).await {
                Ok(snapshot) => {
                    let (is_watched, is_over) = (snapshot.watched, snapshot.phase.is_over());
                    sender.send_replace(Some(snapshot));
                    if !is_watched && is_over {
                        return;
                    }
                    // Without an engine each refresh is a request to the provider.
                    if !is_watched {
                        tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                }
                Err(error) => tracing::warn!("{error}."),
            }
        }
    };
    let mut view = std::pin::pin!(view::follow(OutputMode::of(&args.place.common), status));
    tokio::select! {
        () = refresh => {}
        () = &mut view => return Ok(0),
    }
    // The sender is dropped: the view draws the end and restores the terminal.
    view.await;
    Ok(0)
}

/// A note about a run that no engine on this machine watches.
fn unwatched_note(context: &CutoverContext, observed: &Observed) -> Option<String> {
    let marker = observed.marker.as_ref().filter(|marker| marker.state != ROLLED_BACK)?;
    Some(match active_lease(marker, context.operator.wall) {
        Some(lease) => format!("no process on this machine watches the cutover, but {lease}."),
        None => {
            format!("no process watches the cutover; {BOLD}kongferry cutover resume{BOLD:#} continues it.")
        }
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
