//! What gates, name servers and counters measured, and when that causes a rollback.

use super::Machine;
use crate::cutover::gates::measurement::{Measurement, Traffic};
use crate::cutover::gates::policy::OnFail;
use crate::cutover::gates::tally::Breach;
use crate::cutover::notice::Level;
use crate::cutover::state::{Activity, CutoverPhase, Goal};
use crate::dns::Share;

impl Machine {
    pub(super) fn on_wrong_answer(&mut self, text: String) {
        match self.phase {
            // A rollback cannot be rolled back: the query is repeated and reported.
            CutoverPhase::Moving { goal: Goal::Rollback, .. } => self.on_retry_later(None, text),
            _ if self.is_exposed() => self.roll_back(format!("wrong answers: {text}")),
            _ => self.pause("name_servers", text),
        }
    }

    pub(super) fn on_gate_measured(&mut self, gate: usize, measured: Measurement) {
        let Some((name, policy)) = self.rules.gates.get(gate).cloned() else { return };
        let (line, after) = (measured.line(), self.now.saturating_sub(self.share_since));
        let Some(tally) = self.tallies.get_mut(gate) else { return };
        let Some(breach) = tally.add(&policy, measured, after) else { return };
        let (result, consecutive, limit) = match breach {
            Breach::Failed(_) => ("fails", tally.failures, policy.failure_limit),
            Breach::Inconclusive => ("is inconclusive", tally.inconclusive, policy.inconclusive_limit),
        };
        if !self.runs_gates() {
            return;
        }
        let text = format!("{name} {result}: {line}");
        match breach {
            Breach::Failed(OnFail::Rollback) if self.is_exposed() => {
                self.roll_back(format!("gate {name}: {line}"));
            }
            // A pause would stop nothing after the drain: it is reported once, and refuses `finish`.
            _ if self.awaits_finish() => {
                if self.phase == CutoverPhase::toward(Goal::Finish) && !self.finish_forced {
                    self.refuse_finish(format!("gate {text} (--force finishes anyway)"));
                } else if consecutive == limit + 1 {
                    self.report(
                        Level::Warn,
                        "gate",
                        format!("Gate {text}; \"finish\" is refused until it passes"),
                    );
                }
            }
            // Without traffic on green a gate is expected to be inconclusive.
            Breach::Inconclusive if self.share == Share::BLUE => {}
            _ => self.pause("gate", format!("gate {text}")),
        }
    }

    pub(super) fn on_traffic_measured(&mut self, traffic: Traffic) {
        self.traffic = Some((traffic, self.now));
        let is_idle = traffic.blue.is_some_and(|rate| rate <= self.rules.idle_below);
        match self.phase {
            // A missing number is not a request: the state stays drained, and `finish` counts again.
            CutoverPhase::Drained if !is_idle => {
                if let Some(rate) = traffic.blue {
                    let text =
                        format!("Blue receives {rate:.2} requests per second again; the drain starts over");
                    self.report(Level::Warn, "blue_again", text);
                    self.enter(CutoverPhase::Draining);
                }
            }
            CutoverPhase::Draining if !is_idle => self.idle_since = None,
            CutoverPhase::Draining => {
                self.idle_since.get_or_insert(self.now);
            }
            _ => {}
        }
    }

    /// Whether all that is left is `finish`.
    fn awaits_finish(&self) -> bool {
        matches!(self.phase, CutoverPhase::Drained | CutoverPhase::Moving { goal: Goal::Finish, .. })
    }

    /// Sends new resolutions back to blue, in every phase.
    pub(super) fn roll_back(&mut self, reason: String) {
        if self.phase.is_going_back() {
            return;
        }
        self.paused = None;
        self.pause_when_settled = false;
        self.phase_after_settling = None;
        self.report(Level::Error, "rollback", format!("Rolling back: {reason}"));
        self.rollback_reason = Some(reason);
        self.enter(CutoverPhase::moving(Goal::Rollback, Activity::Applying));
    }
}
