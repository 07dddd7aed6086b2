//! Commands to a running engine: whether they apply now, and the reply.

use super::{CommandRequest, Engine};
use crate::cutover::machine::Event;
use crate::cutover::state::{CutoverPhase, Goal, OperatorCommand};

impl Engine {
    pub(super) fn handle_command(&mut self, (command, by, answer): CommandRequest) {
        let now = self.environment.clock.now();
        if command == OperatorCommand::Leave {
            self.leaving = true;
        }
        let refused = self.refusal(&command);
        let finishes = matches!(command, OperatorCommand::Finish { .. });
        if refused.is_none() {
            self.handle_event(Event::Commanded(command, by), now);
            // Checks from before the command are repeated.
            self.next_check = now;
        }
        if finishes && refused.is_none() {
            // The reply is sent when it is done or refused.
            self.finish_reply = Some(answer);
            return;
        }
        let reply = match refused {
            Some(text) => Err(text),
            None => Ok(self.describe()),
        };
        // The client may have disconnected.
        let _ = answer.send(reply);
    }

    /// Replies to `finish` once its result is known.
    pub(super) fn reply_to_finish(&mut self) {
        let finishing = matches!(self.machine.phase, CutoverPhase::Moving { goal: Goal::Finish, .. });
        if finishing && self.machine.paused.is_none() && !self.leaving {
            return;
        }
        let Some(answer) = self.finish_reply.take() else { return };
        let reply = self.machine.finish_refusal.take().map_or_else(|| Ok(self.describe()), Err);
        // The client may have disconnected.
        let _ = answer.send(reply);
    }

    fn describe(&self) -> String {
        let sentence = self.machine.phase.sentence(&self.machine.rules.steps);
        if self.machine.paused.is_some() { format!("paused: {sentence}") } else { sentence }
    }

    /// Why a command makes no sense now.
    fn refusal(&self, command: &OperatorCommand) -> Option<String> {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        let sentence = phase.sentence(&self.machine.rules.steps);
        let no = |reason: &str| Some(format!("{reason}: {sentence}"));
        match command {
            OperatorCommand::Resume if !paused => no("nothing is paused"),
            OperatorCommand::Retry
                if matches!(phase, CutoverPhase::Draining | CutoverPhase::Drained) && !paused =>
            {
                no("there is no step to begin again")
            }
            OperatorCommand::Pause if paused => no("it is paused already"),
            OperatorCommand::Pause if phase == CutoverPhase::Drained => {
                no("nothing moves that could be paused")
            }
            OperatorCommand::Promote { .. } if phase == CutoverPhase::Draining && self.blue_is_busy() => {
                no("blue receives requests (\"finish --force\" finishes anyway)")
            }
            OperatorCommand::Pause
            | OperatorCommand::Undo
            | OperatorCommand::Promote { .. }
            | OperatorCommand::Retry
                if phase.is_going_back() =>
            {
                no("a rollback is not interrupted")
            }
            OperatorCommand::Finish { .. }
                if matches!(phase, CutoverPhase::Moving { goal: Goal::Finish, .. }) =>
            {
                no("it is being finished already")
            }
            OperatorCommand::Finish { force: false, .. } if phase == CutoverPhase::Draining => {
                no("blue has not been idle for long enough (--force finishes anyway)")
            }
            OperatorCommand::Finish { .. }
                if !matches!(phase, CutoverPhase::Draining | CutoverPhase::Drained) =>
            {
                no("it is not at 100 %")
            }
            OperatorCommand::Undo
                if !matches!(phase, CutoverPhase::Draining | CutoverPhase::Drained)
                    && phase.step().is_none() =>
            {
                no("there is no step to take back")
            }
            OperatorCommand::Promote { .. }
                if phase.step().is_none() && phase != CutoverPhase::Draining && !paused =>
            {
                no("there is no step to leave")
            }
            _ => None,
        }
    }

    fn blue_is_busy(&self) -> bool {
        let rate = self.machine.traffic.and_then(|(traffic, _)| traffic.blue);
        rate.is_some_and(|rate| rate > self.machine.rules.idle_below)
    }
}
