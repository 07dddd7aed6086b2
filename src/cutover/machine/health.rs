//! What is seen of gates, name servers and counters, and when that means the way back.

use super::{Machine, say};
use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{Measurement, Traffic};
use crate::cutover::gates::policy::OnFail;
use crate::cutover::gates::tally::Breach;
use crate::cutover::notice::{Level, Said};
use crate::cutover::state::{Goal, Phase, Stage};
use crate::dns::Share;

impl Machine {
    pub(super) fn on_wrong(&mut self, text: String, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            // There is no way further back; it is asked again, and every operator told.
            Phase::Moving { goal: Goal::Back, .. } => self.on_later(None, text, now, said),
            _ if self.exposed() => self.roll_back(format!("wrong answers: {text}"), now, said),
            _ => self.pause("name_servers", text, now, said),
        }
    }

    pub(super) fn on_measured(
        &mut self,
        gate: usize,
        measured: Measurement,
        now: Time,
        said: &mut Vec<Said>,
    ) {
        let Some((name, policy)) = self.rules.gates.get(gate).cloned() else { return };
        let (line, after) = (measured.line(), now.saturating_sub(self.share_since));
        let Some(tally) = self.tallies.get_mut(gate) else { return };
        let alarm = tally.add(&policy, measured, after);
        let in_a_row = if alarm == Some(Breach::Unclear) { tally.inconclusive } else { tally.failures };
        if !self.is_watched() {
            return;
        }
        match alarm {
            Some(Breach::Failed(on_fail)) if self.exposed() && on_fail == OnFail::Rollback => {
                self.roll_back(format!("gate {name}: {line}"), now, said);
            }
            Some(alarm) if self.is_at_its_end() => {
                // Where nothing moves any more a pause holds nothing up: it is said once, and holds up `finish`.
                let (is, borne) = match alarm {
                    Breach::Failed(_) => ("fails", policy.failure_limit),
                    Breach::Unclear => ("cannot be judged", policy.inconclusive_limit),
                };
                let text = format!("{name} {is}: {line}");
                if self.phase == Phase::toward(Goal::Finish) && !self.finish_forced {
                    self.do_not_finish(format!("gate {text} (--force finishes all the same)"), now, said);
                } else if in_a_row == borne + 1 {
                    say(said, Level::Warn, "gate", format!("Gate {text}; \"finish\" waits for it"));
                }
            }
            Some(Breach::Failed(_)) => self.pause("gate", format!("gate {name} fails: {line}"), now, said),
            // Nothing is on green yet, so nothing can be known of it yet.
            Some(Breach::Unclear) if self.share > Share::BLUE => {
                self.pause("gate", format!("gate {name} cannot be judged: {line}"), now, said);
            }
            Some(Breach::Unclear) | None => {}
        }
    }

    pub(super) fn on_counted(&mut self, traffic: Traffic, now: Time, said: &mut Vec<Said>) {
        self.traffic = Some((traffic, now));
        let still = traffic.blue.is_some_and(|rate| rate <= self.rules.still_below);
        match self.phase {
            // No number is no request: it is still drained, and `finish` asks again.
            Phase::Drained if !still => {
                if let Some(rate) = traffic.blue {
                    say(
                        said,
                        Level::Warn,
                        "blue_again",
                        format!("Blue gets requests again: {rate:.2} a second"),
                    );
                    self.go(Phase::Draining, now, said);
                }
            }
            Phase::Draining if !still => self.still_since = None,
            Phase::Draining => {
                self.still_since.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// Whether all that is left is `finish`.
    fn is_at_its_end(&self) -> bool {
        matches!(self.phase, Phase::Drained | Phase::Moving { goal: Goal::Finish, .. })
    }

    /// Goes back to blue, from wherever it is.
    pub(super) fn roll_back(&mut self, why: String, now: Time, said: &mut Vec<Said>) {
        if self.phase.is_going_back() {
            return;
        }
        self.paused = None;
        self.hold = false;
        self.drain_after = None;
        say(said, Level::Error, "rollback", format!("Rolling back: {why}"));
        self.why_back = Some(why);
        self.go(Phase::Moving { goal: Goal::Back, stage: Stage::Applying }, now, said);
    }
}
