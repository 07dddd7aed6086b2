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
        let finishes = matches!(command, Command::Finish { .. });
        if refused.is_none() {
            self.feed(Event::Told(command, by), now);
            // What was looked at before a person spoke is looked at again.
            self.look_due = now;
        }
        if finishes && refused.is_none() {
            // Told when it is done, or when something speaks against it.
            self.finisher = Some(answer);
            return;
        }
        let reply = match refused {
            Some(text) => Err(text),
            None => Ok(self.in_words()),
        };
        // Whoever asked may have gone.
        let _ = answer.send(reply);
    }

    /// Tells whoever said `finish` what came of it, once it has come to something.
    pub(super) fn answer_finisher(&mut self) {
        let finishing = matches!(self.machine.phase, Phase::Moving { goal: Goal::Finish, .. });
        if finishing && self.machine.paused.is_none() && !self.leaving {
            return;
        }
        let Some(answer) = self.finisher.take() else { return };
        let reply = self.machine.against_finish.take().map_or_else(|| Ok(self.in_words()), Err);
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
            Command::Retry if matches!(phase, Phase::Draining | Phase::Drained) && !paused => {
                no("there is no step to begin again")
            }
            Command::Pause if paused => no("it is paused already"),
            Command::Pause if phase == Phase::Drained => no("nothing moves that could be paused"),
            Command::Promote { .. } if phase == Phase::Draining && self.blue_is_busy() => {
                no("blue still gets requests (\"finish --force\" finishes all the same)")
            }
            Command::Pause | Command::Undo | Command::Promote { .. } | Command::Retry
                if phase.is_going_back() =>
            {
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

    fn blue_is_busy(&self) -> bool {
        let rate = self.machine.traffic.and_then(|(traffic, _)| traffic.blue);
        rate.is_some_and(|rate| rate > self.machine.rules.still_below)
    }
}
