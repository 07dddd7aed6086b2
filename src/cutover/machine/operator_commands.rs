//! What people say, and what follows from it.

use super::{FinishFrom, LastLooks, Machine, rollback_reason, say};
use crate::cutover::clock::Time;
use crate::cutover::gates::tally::Tally;
use crate::cutover::notice::{Level, Said};
use crate::cutover::state::{Command, Goal, Phase, Stage};

impl Machine {
    pub(super) fn on_told(&mut self, command: Command, by: &str, now: Time, said: &mut Vec<Said>) {
        say(said, Level::Info, "told", format!("{by}: {}", command.word()));
        match command {
            Command::Rollback { reason } => {
                let why = rollback_reason(by, &reason);
                match self.phase {
                    // The first reason stays: it is the one that explains what happened.
                    phase if phase.is_going_back() => {
                        say(
                            said,
                            Level::Info,
                            "rollback_again",
                            format!("A rollback is under way already; {why}"),
                        );
                    }
                    Phase::Finished | Phase::RolledBack => {}
                    _ => self.roll_back(why, now, said),
                }
            }
            Command::Pause => self.pause("operator", format!("asked for by {by}"), now, said),
            Command::Resume => self.unpause(now),
            Command::Promote { full } => self.promote(full, now, said),
            Command::Retry => self.retry(now, said),
            Command::Undo => self.undo(by, now, said),
            Command::Finish { force, accept_drift } => {
                let may = self.phase == Phase::Drained || (force && self.phase == Phase::Draining);
                if may {
                    let (phase, verified, paused) = (self.phase, self.verified, self.paused.take());
                    self.finish_from = Some(FinishFrom { phase, verified, paused });
                    self.last_looks = LastLooks::of(&self.rules, force, accept_drift);
                    self.finish_forced = force;
                    let looks = self.last_looks.any() || !force;
                    let stage = if looks { Stage::Asking } else { Stage::Applying };
                    self.go(Phase::Moving { goal: Goal::Finish, stage }, now, said);
                }
            }
            Command::Leave => {}
        }
    }

    /// Ends the pause; what was watched before it counts on.
    fn unpause(&mut self, now: Time) {
        if let Some((_, at)) = self.paused.take() {
            let paused = now.saturating_sub(at);
            match self.phase.stage() {
                Some(Stage::Baking) => self.since += paused,
                // What waited for something begins its patience anew.
                _ => self.since = now,
            }
            self.attempts = 0;
            self.waiting = None;
            self.tallies.iter_mut().for_each(Tally::restart);
        }
    }

    fn promote(&mut self, full: bool, now: Time, said: &mut Vec<Said>) {
        let last = self.rules.steps.len().saturating_sub(1);
        match self.phase {
            Phase::Moving { goal: Goal::Step(index), stage } => {
                self.unpause(now);
                if full && index < last {
                    let unseen = if stage == Stage::Asking { index } else { index + 1 };
                    self.go(Phase::toward(Goal::Step(last)), now, said);
                    self.skipped.extend(unseen..last);
                } else if matches!(stage, Stage::Baking | Stage::Leaving | Stage::Approval | Stage::Settling)
                {
                    self.leave_step(index, now, said);
                }
            }
            Phase::Draining => {
                self.unpause(now);
                self.go(Phase::Drained, now, said);
            }
            _ => self.unpause(now),
        }
    }

    fn retry(&mut self, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            Phase::Moving { goal, .. } if goal != Goal::Back => {
                self.unpause(now);
                self.go(Phase::toward(goal), now, said);
            }
            _ => self.unpause(now),
        }
    }

    fn undo(&mut self, by: &str, now: Time, said: &mut Vec<Said>) {
        let index = match self.phase {
            Phase::Draining | Phase::Drained => self.rules.steps.len().saturating_sub(1),
            Phase::Moving { goal: Goal::Step(index), .. } => index,
            _ => return,
        };
        // A step that has not been written yet is undone by not writing it, but an earlier try may have landed.
        if index == 0 {
            return self.roll_back(format!("undone by {by}"), now, said);
        }
        self.paused = None;
        self.drain_after = None;
        self.hold = true;
        say(
            said,
            Level::Warn,
            "undo",
            format!("One step back, to {}", self.rules.share_of(Goal::Step(index - 1))),
        );
        self.go(Phase::Moving { goal: Goal::Step(index - 1), stage: Stage::Applying }, now, said);
    }
}
