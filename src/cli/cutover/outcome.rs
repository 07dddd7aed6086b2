//! What a command prints when its engine has ended.

use serde_json::json;

use super::super::args::Format;
use super::super::text::{self, BAD, BOLD, GOOD, WARN, wrapped};
use super::CutoverContext;
use crate::cutover::engine::EngineOutcome;
use crate::cutover::state::CutoverPhase;
use crate::cutover::status::StatusSnapshot;
use crate::dns::Share;

pub(super) fn print_finished(share: Share) {
    let text = if share == Share::GREEN {
        "The records are plain records of green with their final TTL. Blue can be shut down."
    } else {
        "The records are plain records of blue, as before the cutover."
    };
    anstream::println!("\n{GOOD}Finished.{GOOD:#} {}", wrapped(text, 10, 2));
}

pub(super) fn print_not_finished(why: &str) {
    anstream::println!("\n{WARN}Not finished, nothing was changed:{WARN:#} {}", wrapped(why, 35, 2));
}

/// Prints the outcome; its exit code is returned.
pub(super) fn print_outcome(
    context: &CutoverContext,
    format: Format,
    no_wait: bool,
    run: uuid::Uuid,
    ended: &EngineOutcome,
    last: Option<&StatusSnapshot>,
) -> u8 {
    let share = last.map(|last| last.share.weight).unwrap_or_default();
    let (word, code) = match ended {
        EngineOutcome::Reached(CutoverPhase::RolledBack) => ("rolled_back", 3),
        EngineOutcome::Reached(phase) => (phase.as_str(), 0),
        EngineOutcome::Left if no_wait => ("left", 3),
        EngineOutcome::Left => ("left", 130),
        EngineOutcome::TakenOver(_) => ("taken_over", 3),
        EngineOutcome::NotFinished(_) => ("not_finished", 4),
    };
    if format == Format::Json {
        text::print_json(&json!({ "outcome": word, "run": run, "last": last.map(StatusSnapshot::to_json) }));
        return code;
    }
    let back = &context.operator.rollback_command;
    let why = last.and_then(|last| last.rollback_reason.clone()).unwrap_or_default();
    match ended {
        EngineOutcome::Reached(CutoverPhase::RolledBack) => {
            anstream::println!("\n{BAD}Rolled back.{BAD:#} {}", wrapped(&why, 13, 2));
            for line in [
                "New resolutions go to blue; a resolver that caches answers longer than their TTL keeps using green until then.",
                "Connections that were open before may stay on green until they are closed.",
                "Next: find the cause, then \"kongferry cutover retry\"; or \"kongferry cutover finish\" restores the old TTL.",
            ] {
                anstream::println!("  {}", wrapped(line, 2, 4));
            }
        }
        EngineOutcome::Reached(CutoverPhase::Finished) => print_finished(share),
        EngineOutcome::Reached(_) => {
            anstream::println!(
                "\n{GOOD}Drained.{GOOD:#} All new resolutions go to green; no process watches them now."
            );
            print_drained_next_steps(back);
        }
        EngineOutcome::Left if last.is_some_and(|last| last.phase == CutoverPhase::Drained) => {
            anstream::println!("\n{WARN}Left.{WARN:#} It has drained; no process watches it now.");
            print_drained_next_steps(back);
        }
        EngineOutcome::Left => {
            anstream::println!(
                "\n{WARN}Left.{WARN:#} The records send {share} to green, and no process watches them."
            );
            anstream::println!("  Continue: kongferry cutover resume   Roll back: {back}");
        }
        EngineOutcome::TakenOver(by) => {
            anstream::println!(
                "\n{WARN}Taken over.{WARN:#} {by}; this process stops and has changed nothing since."
            );
        }
        EngineOutcome::NotFinished(why) => {
            print_not_finished(why);
        }
    }
    code
}

fn print_drained_next_steps(back: &str) {
    anstream::println!(
        "  Next: {BOLD}kongferry cutover finish{BOLD:#} restores the TTL; until then {back} rolls back."
    );
}
