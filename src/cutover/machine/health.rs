//! What gates, name servers and counters measured, and when that causes a rollback.

use super::{Machine, report};
use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{Measurement, Traffic};
use crate::cutover::gates::policy::OnFail;
use crate::cutover::gates::tally::Breach;
use crate::cutover::notice::{Level, Notice};
use crate::cutover::state::{Activity, CutoverPhase, Goal};
use crate::dns::Share;

impl Machine {
    pub(super) fn on_wrong_answer(&mut self, text: String, now: Time, notices: &mut Vec<Notice>) {
        match self.phase {
            // A rollback cannot be rolled back: the query is repeated and reported.
            CutoverPhase::Moving { goal: Goal::Rollback, .. } => {
                self.on_retry_later(None, text, now, notices);
            }
            _ if self.is_exposed() => self.roll_back(format!("wrong answers: {text}"), now, notices),
            _ => self.pause("name_servers", text, now, notices),
        }
    }

    pub(super) fn on_gate_measured(
        &mut self,
        gate: usize,
        measured: Measurement,
        now: Time,
        notices: &mut Vec<Notice>,
    ) {
        let Some((name, policy)) = self.rules.gates.get(gate).cloned() else { return };
        let (line, after) = (measured.line(), now.saturating_sub(self.share_since));
        let Some(tally) = self.tallies.get_mut(gate) else { return };
        let breach = tally.add(&policy, measured, after);
        let in_a_row = if breach == Some(Breach::Inconclusive) { tally.inconclusive } else { tally.failures };
        if !self.runs_gates() {
            return;
        }
        match breach {
            Some(Breach::Failed(on_fail)) if self.is_exposed() && on_fail == OnFail::Rollback => {
                self.roll_back(format!("gate {name}: {line}"), now, notices);
            }
            Some(breach) if self.awaits_finish() => {
                // A pause would stop nothing after the drain: it is reported once, and refuses `finish`.
                let (is, borne) = match breach {
                    Breach::Failed(_) => ("fails", policy.failure_limit),
                    Breach::Inconclusive => ("cannot be judged", policy.inconclusive_limit),
                };
                let text = format!("{name} {is}: {line}");
                if self.phase == CutoverPhase::toward(Goal::Finish) && !self.finish_forced {
                    self.refuse_finish(format!("gate {text} (--force finishes anyway)"), now, notices);
                } else if in_a_row == borne + 1 {
                    report(notices, Level::Warn, "gate", format!("Gate {text}; \"finish\" waits for it"));
                }
            }
            Some(Breach::Failed(_)) => self.pause("gate", format!("gate {name} fails: {line}"), now, notices),
            // Without traffic on green a gate cannot be judged.
            Some(Breach::Inconclusive) if self.share > Share::BLUE => {
                self.pause("gate", format!("gate {name} cannot be judged: {line}"), now, notices);
            }
            Some(Breach::Inconclusive) | None => {}
        }
    }

    pub(super) fn on_traffic_measured(&mut self, traffic: Traffic, now: Time, notices: &mut Vec<Notice>) {
        self.traffic = Some((traffic, now));
        let is_idle = traffic.blue.is_some_and(|rate| rate <= self.rules.idle_below);
        match self.phase {
            // A missing number is not a request: the state stays drained, and `finish` counts again.
            CutoverPhase::Drained if !is_idle => {
                if let Some(rate) = traffic.blue {
                    report(
                        notices,
                        Level::Warn,
                        "blue_again",
                        format!("Blue gets requests again: {rate:.2} a second"),
                    );
                    self.enter(CutoverPhase::Draining, now, notices);
                }
            }
            CutoverPhase::Draining if !is_idle => self.idle_since = None,
            CutoverPhase::Draining => {
                self.idle_since.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// Whether all that is left is `finish`.
    fn awaits_finish(&self) -> bool {
        matches!(self.phase, CutoverPhase::Drained | CutoverPhase::Moving { goal: Goal::Finish, .. })
    }

    /// Goes back to blue, from wherever it is.
    pub(super) fn roll_back(&mut self, why: String, now: Time, notices: &mut Vec<Notice>) {
        if self.phase.is_going_back() {
            return;
        }
        self.paused = None;
        self.pause_when_settled = false;
        self.phase_after_settling = None;
        report(notices, Level::Error, "rollback", format!("Rolling back: {why}"));
        self.rollback_reason = Some(why);
        self.enter(CutoverPhase::Moving { goal: Goal::Rollback, activity: Activity::Applying }, now, notices);
    }
}
