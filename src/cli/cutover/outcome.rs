//! Prints how an engine ended.

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
        "The records are plain records of blue with their old TTL."
    };
    anstream::println!("\n{GOOD}Finished.{GOOD:#} {}", wrapped(text, 10, 2));
}

pub(super) fn print_not_finished(reason: &str) {
    anstream::println!("\n{WARN}Not finished, nothing was changed:{WARN:#} {}", wrapped(reason, 35, 2));
}

/// Prints the outcome; returns its exit code.
pub(super) fn print_outcome(
    context: &CutoverContext,
    format: Format,
    no_wait: bool,
    run: uuid::Uuid,
    outcome: &EngineOutcome,
    last: Option<&StatusSnapshot>,
) -> u8 {
    let share = last.map(|last| last.share.weight).unwrap_or_default();
    let (word, code) = match outcome {
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
    let rollback = &context.operator.rollback_command;
    match outcome {
        EngineOutcome::Reached(CutoverPhase::RolledBack) => {
            let reason = last.and_then(|last| last.rollback_reason.as_deref()).unwrap_or_default();
            anstream::println!("\n{BAD}Rolled back.{BAD:#} {}", wrapped(reason, 13, 2));
            for line in [
                "New resolutions go to blue. Resolvers that cache answers longer than their TTL return green until then.",
                "Connections opened before the rollback may stay on green until they close.",
                "Next: repair the cause and run \"kongferry cutover retry\", or run \"kongferry cutover finish\" to restore the old TTL.",
            ] {
                anstream::println!("  {}", wrapped(line, 2, 4));
            }
        }
        EngineOutcome::Reached(CutoverPhase::Finished) => print_finished(share),
        EngineOutcome::Reached(_) => {
            anstream::println!(
                "\n{GOOD}Drained.{GOOD:#} All new resolutions go to green; no process watches the cutover."
            );
            print_drained_next_steps(rollback);
        }
        EngineOutcome::Left if last.is_some_and(|last| last.phase == CutoverPhase::Drained) => {
            anstream::println!("\n{WARN}Left.{WARN:#} The cutover has drained; no process watches it.");
            print_drained_next_steps(rollback);
        }
        EngineOutcome::Left => {
            anstream::println!(
                "\n{WARN}Left.{WARN:#} The records send {share} to green; no process watches the cutover."
            );
            anstream::println!(
                "  Next: {BOLD}kongferry cutover resume{BOLD:#} continues, {BOLD}{rollback}{BOLD:#} rolls back."
            );
        }
        EngineOutcome::TakenOver(by) => {
            anstream::println!(
                "\n{WARN}Taken over.{WARN:#} {by}. This process stops and has changed nothing since."
            );
        }
        EngineOutcome::NotFinished(reason) => print_not_finished(reason),
    }
    code
}

fn print_drained_next_steps(rollback: &str) {
    anstream::println!(
        "  Next: {BOLD}kongferry cutover finish{BOLD:#} restores the TTL; until then {BOLD}{rollback}{BOLD:#} rolls back."
    );
}
