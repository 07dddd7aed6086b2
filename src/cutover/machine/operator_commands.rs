//! What an operator's command changes.

use super::{FinishChecks, FinishOrigin, Machine, rollback_reason};
use crate::cutover::gates::tally::GateTally;
use crate::cutover::notice::Level;
use crate::cutover::state::{Activity, CutoverPhase, Goal, OperatorCommand};

impl Machine {
    pub(super) fn on_command(&mut self, command: OperatorCommand, by: &str) {
        self.report(Level::Info, "told", format!("{by} sent {}", command.as_str()));
        match command {
            OperatorCommand::Rollback { reason } => self.roll_back_for(&rollback_reason(by, &reason)),
            OperatorCommand::Pause => self.pause("operator", format!("requested by {by}")),
            OperatorCommand::Resume => self.unpause(),
            OperatorCommand::Promote { full } => self.promote(full),
            OperatorCommand::Retry => self.retry(),
            OperatorCommand::Undo => self.undo(by),
            OperatorCommand::Finish { force, accept_drift } => self.finish(force, accept_drift),
            OperatorCommand::Leave => {}
        }
    }

    fn roll_back_for(&mut self, reason: &str) {
        match self.phase {
            // The first reason stays: it is the one that explains what happened.
            phase if phase.is_going_back() => {
                let text = format!("A rollback is already under way; {reason}");
                self.report(Level::Info, "rollback_again", text);
            }
            CutoverPhase::Finished | CutoverPhase::RolledBack => {}
            _ => self.roll_back(reason.to_owned()),
        }
    }

    fn finish(&mut self, force: bool, accept_drift: bool) {
        if self.phase != CutoverPhase::Drained && !(force && self.phase == CutoverPhase::Draining) {
            return;
        }
        let (phase, verified_at, paused) = (self.phase, self.verified_at, self.paused.take());
        self.finish_origin = Some(FinishOrigin { phase, verified_at, paused });
        self.finish_checks = FinishChecks::of(&self.rules, force, accept_drift);
        self.finish_forced = force;
        let checks_first = self.finish_checks.any() || !force;
        let activity = if checks_first { Activity::Checking } else { Activity::Applying };
        self.enter(CutoverPhase::moving(Goal::Finish, activity));
    }

    /// Ends the pause; the bake time from before it counts.
    fn unpause(&mut self) {
        let Some((_, paused_at)) = self.paused.take() else { return };
        match self.phase.activity() {
            Some(Activity::Baking) => self.since += self.now.saturating_sub(paused_at),
            // The settle limit starts over.
            _ => self.since = self.now,
        }
        self.attempts = 0;
        self.announced_wait = None;
        self.tallies.iter_mut().for_each(GateTally::restart);
    }

    fn promote(&mut self, full: bool) {
        self.unpause();
        let last = self.rules.steps.len().saturating_sub(1);
        match self.phase {
            CutoverPhase::Moving { goal: Goal::Step(index), activity } if full && index < last => {
                let first_skipped = if activity == Activity::Checking { index } else { index + 1 };
                self.enter(CutoverPhase::toward(Goal::Step(last)));
                self.skipped.extend(first_skipped..last);
            }
            CutoverPhase::Moving {
                goal: Goal::Step(index),
                activity: Activity::Baking | Activity::PostStepHook | Activity::Approval | Activity::Settling,
            } => self.complete_step(index),
            CutoverPhase::Draining => self.enter(CutoverPhase::Drained),
            _ => {}
        }
    }

    fn retry(&mut self) {
        self.unpause();
        if let CutoverPhase::Moving { goal, .. } = self.phase
            && goal != Goal::Rollback
        {
            self.enter(CutoverPhase::toward(goal));
        }
    }

    fn undo(&mut self, by: &str) {
        let index = match self.phase {
            CutoverPhase::Draining | CutoverPhase::Drained => self.rules.steps.len().saturating_sub(1),
            CutoverPhase::Moving { goal: Goal::Step(index), .. } => index,
            _ => return,
        };
        // Also before the step was written: an earlier attempt may have been applied.
        if index == 0 {
            return self.roll_back(format!("step 1 undone by {by}"));
        }
        self.paused = None;
        self.phase_after_settling = None;
        self.pause_when_settled = true;
        let goal = Goal::Step(index - 1);
        let text = format!("Going back one step, to {}", self.rules.share_of(goal));
        self.report(Level::Warn, "undo", text);
        self.enter(CutoverPhase::moving(goal, Activity::Applying));
    }
}
