//! Commands to a running engine: whether they apply now, and the reply.

use super::{CommandRequest, Engine};
use crate::cutover::machine::Event;
use crate::cutover::state::{CutoverPhase, Goal, OperatorCommand};

impl Engine {
    pub(super) fn handle_command(&mut self, (command, by, reply): CommandRequest) {
        self.leaving |= command == OperatorCommand::Leave;
        let refusal = self.refusal(&command);
        let is_finish = matches!(command, OperatorCommand::Finish { .. });
        if refusal.is_none() {
            self.handle_event(Event::Commanded(command, by));
            // Checks from before the command are repeated.
            self.next_check = self.now();
            if is_finish {
                // The reply is sent once its result is known.
                self.finish_reply = Some(reply);
                return;
            }
        }
        // The client may have disconnected.
        let _ = reply.send(refusal.map_or_else(|| Ok(self.describe()), Err));
    }

    /// Replies to `finish` once its result is known.
    pub(super) fn reply_to_finish(&mut self) {
        let is_finishing = matches!(self.machine.phase, CutoverPhase::Moving { goal: Goal::Finish, .. });
        if is_finishing && self.machine.paused.is_none() && !self.leaving {
            return;
        }
        let Some(reply) = self.finish_reply.take() else { return };
        let result = self.machine.finish_refusal.take().map_or_else(|| Ok(self.describe()), Err);
        // The client may have disconnected.
        let _ = reply.send(result);
    }

    fn describe(&self) -> String {
        let sentence = self.machine.phase.sentence(&self.machine.rules.steps);
        if self.machine.paused.is_some() { format!("paused: {sentence}") } else { sentence }
    }

    /// Why a command does not apply now.
    fn refusal(&self, command: &OperatorCommand) -> Option<String> {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        let is_draining = phase == CutoverPhase::Draining;
        let has_all_steps = is_draining || phase == CutoverPhase::Drained;
        let reason = match command {
            OperatorCommand::Resume if !paused => "the cutover is not paused",
            OperatorCommand::Retry if has_all_steps && !paused => "there is no step to repeat",
            OperatorCommand::Pause if paused => "the cutover is already paused",
            OperatorCommand::Pause if phase == CutoverPhase::Drained => {
                "there is no step to pause after the drain"
            }
            OperatorCommand::Promote { .. } if is_draining && self.is_blue_busy() => {
                "blue receives requests (\"finish --force\" finishes anyway)"
            }
            OperatorCommand::Pause
            | OperatorCommand::Undo
            | OperatorCommand::Promote { .. }
            | OperatorCommand::Retry
                if phase.is_going_back() =>
            {
                "a rollback cannot be interrupted"
            }
            OperatorCommand::Finish { .. }
                if matches!(phase, CutoverPhase::Moving { goal: Goal::Finish, .. }) =>
            {
                "\"finish\" is already under way"
            }
            OperatorCommand::Finish { force: false, .. } if is_draining => {
                "blue has not been idle for long enough (--force finishes anyway)"
            }
            OperatorCommand::Finish { .. } if !has_all_steps => "the cutover has not reached 100 %",
            OperatorCommand::Undo if !has_all_steps && phase.step().is_none() => "there is no step to undo",
            OperatorCommand::Promote { .. } if phase.step().is_none() && !is_draining && !paused => {
                "there is no step to end"
            }
            _ => return None,
        };
        Some(format!("{reason}: {}", phase.sentence(&self.machine.rules.steps)))
    }

    fn is_blue_busy(&self) -> bool {
        let rate = self.machine.traffic.and_then(|(traffic, _)| traffic.blue);
        rate.is_some_and(|rate| rate > self.machine.rules.idle_below)
    }
}
