//! What people say to a running engine: whether it makes sense now, and the answer.

use super::{Engine, Order};
use crate::cutover::machine::Event;
use crate::cutover::state::{Command, Goal, Phase};

impl Engine {
    pub(super) fn obey(&mut self, (command, by, answer): Order) {
        let now = self.ports.clock.now();
        if command == Command::Leave {
            self.leaving = true;
        }
        let refused = self.refusal(&command);
        if refused.is_none() {
            self.feed(Event::Told(command, by), now);
            // What was looked at before a person spoke is looked at again.
            self.look_due = now;
        }
        let reply = match refused {
            Some(text) => Err(text),
            None => Ok(self.in_words()),
        };
        // Whoever asked may have gone.
        let _ = answer.send(reply);
    }

    fn in_words(&self) -> String {
        let sentence = self.machine.phase.sentence(&self.machine.rules.steps);
        if self.machine.paused.is_some() { format!("paused: {sentence}") } else { sentence }
    }

    /// Why a command makes no sense now.
    fn refusal(&self, command: &Command) -> Option<String> {
        let (phase, paused) = (self.machine.phase, self.machine.paused.is_some());
        let sentence = phase.sentence(&self.machine.rules.steps);
        let no = |why: &str| Some(format!("{why}: {sentence}"));
        match command {
            Command::Resume if !paused => no("nothing is paused"),
            Command::Pause if paused => no("it is paused already"),
            Command::Pause | Command::Undo | Command::Promote { .. } if phase.is_going_back() => {
                no("a rollback is not interrupted")
            }
            Command::Finish { .. } if matches!(phase, Phase::Moving { goal: Goal::Finish, .. }) => {
                no("it is being finished already")
            }
            Command::Finish { force: false, .. } if phase == Phase::Draining => {
                no("blue has not been still for long enough (--force finishes all the same)")
            }
            Command::Finish { .. } if !matches!(phase, Phase::Draining | Phase::Drained) => {
                no("it is not at 100 %")
            }
            Command::Undo if !matches!(phase, Phase::Draining | Phase::Drained) && phase.step().is_none() => {
                no("there is no step to take back")
            }
            Command::Promote { .. } if phase.step().is_none() && phase != Phase::Draining && !paused => {
                no("there is no step to leave")
            }
            _ => None,
        }
    }
}
