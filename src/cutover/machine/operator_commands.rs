//! What an operator's command changes.

use super::{FinishChecks, FinishOrigin, Machine, report, rollback_reason};
use crate::cutover::clock::Time;
use crate::cutover::gates::tally::GateTally;
use crate::cutover::notice::{Level, Notice};
use crate::cutover::state::{Activity, CutoverPhase, Goal, OperatorCommand};

impl Machine {
    pub(super) fn on_command(
        &mut self,
        command: OperatorCommand,
        by: &str,
        now: Time,
        notices: &mut Vec<Notice>,
    ) {
        report(notices, Level::Info, "told", format!("{by}: {}", command.as_str()));
        match command {
            OperatorCommand::Rollback { reason } => {
                let why = rollback_reason(by, &reason);
                match self.phase {
                    // The first reason stays: it is the one that explains what happened.
                    phase if phase.is_going_back() => {
                        report(
                            notices,
                            Level::Info,
                            "rollback_again",
                            format!("A rollback is under way already; {why}"),
                        );
                    }
                    CutoverPhase::Finished | CutoverPhase::RolledBack => {}
                    _ => self.roll_back(why, now, notices),
                }
            }
            OperatorCommand::Pause => self.pause("operator", format!("asked for by {by}"), now, notices),
            OperatorCommand::Resume => self.unpause(now),
            OperatorCommand::Promote { full } => self.promote(full, now, notices),
            OperatorCommand::Retry => self.retry(now, notices),
            OperatorCommand::Undo => self.undo(by, now, notices),
            OperatorCommand::Finish { force, accept_drift } => {
                let may =
                    self.phase == CutoverPhase::Drained || (force && self.phase == CutoverPhase::Draining);
                if may {
                    let (phase, verified_at, paused) = (self.phase, self.verified_at, self.paused.take());
                    self.finish_origin = Some(FinishOrigin { phase, verified_at, paused });
                    self.finish_checks = FinishChecks::of(&self.rules, force, accept_drift);
                    self.finish_forced = force;
                    let looks = self.finish_checks.any() || !force;
                    let activity = if looks { Activity::Checking } else { Activity::Applying };
                    self.enter(CutoverPhase::Moving { goal: Goal::Finish, activity }, now, notices);
                }
            }
            OperatorCommand::Leave => {}
        }
    }

    /// Ends the pause; what was watched before it counts on.
    fn unpause(&mut self, now: Time) {
        if let Some((_, at)) = self.paused.take() {
            let paused = now.saturating_sub(at);
            match self.phase.activity() {
                Some(Activity::Baking) => self.since += paused,
                // What waited for something begins its patience anew.
                _ => self.since = now,
            }
            self.attempts = 0;
            self.announced_wait = None;
            self.tallies.iter_mut().for_each(GateTally::restart);
        }
    }

    fn promote(&mut self, full: bool, now: Time, notices: &mut Vec<Notice>) {
        let last = self.rules.steps.len().saturating_sub(1);
        match self.phase {
            CutoverPhase::Moving { goal: Goal::Step(index), activity } => {
                self.unpause(now);
                if full && index < last {
                    let unseen = if activity == Activity::Checking { index } else { index + 1 };
                    self.enter(CutoverPhase::toward(Goal::Step(last)), now, notices);
                    self.skipped.extend(unseen..last);
                } else if matches!(
                    activity,
                    Activity::Baking | Activity::PostStepHook | Activity::Approval | Activity::Settling
                ) {
                    self.complete_step(index, now, notices);
                }
            }
            CutoverPhase::Draining => {
                self.unpause(now);
                self.enter(CutoverPhase::Drained, now, notices);
            }
            _ => self.unpause(now),
        }
    }

    fn retry(&mut self, now: Time, notices: &mut Vec<Notice>) {
        match self.phase {
            CutoverPhase::Moving { goal, .. } if goal != Goal::Rollback => {
                self.unpause(now);
                self.enter(CutoverPhase::toward(goal), now, notices);
            }
            _ => self.unpause(now),
        }
    }

    fn undo(&mut self, by: &str, now: Time, notices: &mut Vec<Notice>) {
        let index = match self.phase {
            CutoverPhase::Draining | CutoverPhase::Drained => self.rules.steps.len().saturating_sub(1),
            CutoverPhase::Moving { goal: Goal::Step(index), .. } => index,
            _ => return,
        };
        // A step that has not been written yet is undone by not writing it, but an earlier try may have landed.
        if index == 0 {
            return self.roll_back(format!("undone by {by}"), now, notices);
        }
        self.paused = None;
        self.phase_after_settling = None;
        self.pause_when_settled = true;
        report(
            notices,
            Level::Warn,
            "undo",
            format!("One step back, to {}", self.rules.share_of(Goal::Step(index - 1))),
        );
        self.enter(
            CutoverPhase::Moving { goal: Goal::Step(index - 1), activity: Activity::Applying },
            now,
            notices,
        );
    }
}
