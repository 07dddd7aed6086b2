//! How a move proceeds: checks, write, settling, baking, next step; and the transitions that time alone causes.

use std::time::Duration;

use super::{FinishOrigin, Machine};
use crate::cutover::gates::measurement::{GateVerdict, Measurement, Traffic};
use crate::cutover::gates::tally::GateTally;
use crate::cutover::notice::Level;
use crate::cutover::state::{Activity, CutoverPhase, Goal};
use crate::dns::Share;
use crate::duration::compact;

/// The wait before the first retry; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

impl Machine {
    pub(super) fn on_checks_passed(&mut self) {
        match self.phase {
            CutoverPhase::Moving {
                goal: goal @ (Goal::Step(_) | Goal::Finish),
                activity: Activity::Checking,
            } => {
                if goal == Goal::Finish {
                    if let Some(reason) = self.gate_refusal() {
                        return self.refuse_finish(reason);
                    }
                } else if let Some(name) = self.failing_gate() {
                    // An operator may have resumed while a gate fails.
                    return self.pause("gate", format!("gate {name} fails"));
                }
                self.enter(CutoverPhase::moving(goal, Activity::Applying));
            }
            CutoverPhase::Moving { goal: goal @ Goal::Step(index), activity: Activity::PostStepHook } => {
                let step = self.rules.steps.get(index).copied();
                if step.is_some_and(|step| step.approval && step.share != Share::GREEN) {
                    self.enter(CutoverPhase::moving(goal, Activity::Approval));
                    let share = self.rules.share_of(goal);
                    let text =
                        format!("{share} has baked; \"kongferry cutover promote\" approves the next step");
                    self.report(Level::Warn, "approval", text);
                } else {
                    self.complete_step(index);
                }
            }
            _ => {}
        }
    }

    /// Nothing was written yet: a running engine returns to the phase before `finish`, a process of its own ends.
    pub(super) fn refuse_finish(&mut self, reason: String) {
        self.report(Level::Warn, "not_finished", format!("Not finished: {reason}"));
        match self.finish_origin.take() {
            Some(FinishOrigin { phase, verified_at, paused }) => {
                (self.phase, self.since) = (phase, self.now);
                (self.verified_at, self.paused) = (verified_at, paused);
                self.finish_refusal = Some(reason);
            }
            None => self.not_finished = Some(reason),
        }
    }

    /// The gate that refuses `finish`, unless it is forced.
    fn gate_refusal(&self) -> Option<String> {
        if self.finish_forced {
            return None;
        }
        if let Some(name) = self.failing_gate() {
            return Some(format!("gate {name} fails (--force finishes anyway)"));
        }
        let mut gates = self.rules.gates.iter().zip(&self.tallies);
        let ((name, _), tally) = gates.find(|((_, policy), tally)| {
            tally.verdict() == Some(GateVerdict::Inconclusive)
                && tally.inconclusive > policy.inconclusive_limit
        })?;
        let line = tally.last.as_ref().map(Measurement::line).unwrap_or_default();
        Some(format!("gate {name} is inconclusive: {line} (--force finishes anyway)"))
    }

    fn failing_gate(&self) -> Option<&str> {
        let is_failing = |tally: &GateTally| tally.verdict() == Some(GateVerdict::Fail);
        let mut gates = self.rules.gates.iter().zip(&self.tallies);
        gates.find(|(_, tally)| is_failing(tally)).map(|((name, _), _)| name.as_str())
    }

    pub(super) fn complete_step(&mut self, index: usize) {
        self.enter(if index + 1 < self.rules.steps.len() {
            CutoverPhase::toward(Goal::Step(index + 1))
        } else {
            CutoverPhase::Draining
        });
    }

    pub(super) fn on_written(&mut self) {
        let CutoverPhase::Moving { goal, activity: Activity::Checking | Activity::Applying } = self.phase
        else {
            return;
        };
        if goal != Goal::Finish {
            let share = self.rules.share_of(goal);
            self.set_share(share, self.now);
            self.requested_share = share;
            self.report_write(goal, share);
        }
        self.enter(CutoverPhase::moving(goal, Activity::Propagating));
    }

    fn report_write(&mut self, goal: Goal, share: Share) {
        match goal {
            Goal::Rollback => {
                let text = format!(
                    "The records send everything to blue; resolvers follow within {}, or later if they cache answers longer",
                    compact(self.rules.ttl)
                );
                self.report(Level::Error, "back", text);
            }
            Goal::LowerTtl => {
                let text = format!("The TTL of the records is {} s", self.rules.ttl.as_secs());
                self.report(Level::Info, "lowered", text);
            }
            _ => self.report(Level::Info, "written", format!("The records send {share} to green")),
        }
    }

    /// `retry_after` is the wait that the provider asks for.
    pub(super) fn on_retry_later(&mut self, retry_after: Option<Duration>, text: String) {
        let CutoverPhase::Moving { goal, activity } = self.phase else { return };
        self.attempts += 1;
        let is_overdue = self.now.saturating_sub(self.since) >= self.rules.settle_limit;
        if is_overdue && goal != Goal::Rollback {
            let code = if activity == Activity::Settling { "name_servers" } else { "provider" };
            return self.pause(code, text);
        }
        let is_writing = matches!(activity, Activity::Checking | Activity::Applying);
        let backoff = FIRST_RETRY * 2_u32.pow(self.attempts.min(6) - 1);
        let wait =
            retry_after.unwrap_or(if is_writing { backoff } else { backoff.min(self.rules.check_every) });
        self.retry_at = Some(self.now + wait.min(LONGEST_RETRY));
        let (level, code) = if is_writing { (Level::Warn, "retry") } else { (Level::Info, "waiting") };
        self.report_wait(level, code, text);
    }

    /// Makes the next transition that is due by time alone; whether there was one.
    pub(super) fn advance(&mut self) -> bool {
        if self.retry_at.is_some_and(|at| at <= self.now) {
            self.retry_at = None;
        }
        if self.is_halted() {
            return false;
        }
        let before = self.phase;
        match before {
            CutoverPhase::Ready => self.enter(CutoverPhase::toward(Goal::Step(0))),
            _ if self.ends_at().is_none_or(|at| at > self.now) => {}
            CutoverPhase::Moving { goal, activity: Activity::Settling } => self.on_settled(goal),
            CutoverPhase::Moving { goal, activity: Activity::Baking } => self.on_baked(goal),
            CutoverPhase::Draining if self.gates_allow_progress() => self.enter(CutoverPhase::Drained),
            _ => {}
        }
        self.phase != before
    }

    fn on_settled(&mut self, goal: Goal) {
        if goal == Goal::Finish {
            return self.enter(CutoverPhase::Finished);
        }
        if goal == Goal::Step(self.rules.steps.len().saturating_sub(1))
            && let Some(phase) = self.phase_after_settling.take()
        {
            return self.enter(phase);
        }
        self.enter(CutoverPhase::moving(goal, Activity::Baking));
        match goal {
            Goal::Step(index) => {
                let bake = self.rules.steps.get(index).map(|step| compact(step.bake)).unwrap_or_default();
                let share = self.rules.share_of(goal);
                let text = format!("Every name server answers with {share}; baking for {bake}");
                self.report(Level::Info, "baking", text);
            }
            Goal::LowerTtl if !self.old_ttl_remaining.is_zero() => {
                let wait = compact(self.old_ttl_remaining);
                let text = format!("Waiting {wait} for the old TTL to expire in resolvers");
                self.report(Level::Info, "old_ttl", text);
            }
            _ => {}
        }
        if std::mem::take(&mut self.pause_when_settled) {
            self.pause("undone", "a step was undone; \"kongferry cutover resume\" continues".to_owned());
        }
    }

    fn on_baked(&mut self, goal: Goal) {
        match goal {
            Goal::LowerTtl => self.enter(CutoverPhase::Ready),
            Goal::Rollback => self.end_rollback(),
            Goal::Step(_) if self.gates_allow_progress() => {
                self.enter(CutoverPhase::moving(goal, Activity::PostStepHook));
            }
            Goal::Step(_) | Goal::Finish => {}
        }
    }

    /// Ends the rollback once green is idle, or cannot be counted.
    fn end_rollback(&mut self) {
        match self.traffic {
            // An older number was measured before the rollback.
            Some((Traffic { green: Some(rate), .. }, at))
                if at >= self.since && rate > self.rules.idle_below =>
            {
                let text = "Green receives requests over connections opened before the rollback";
                return self.announce_wait(text.to_owned());
            }
            // The first count may take a while.
            None if self.rules.has_counters
                && self.now < self.since + self.rules.resolver_floor + self.rules.check_every * 2 =>
            {
                return;
            }
            Some((Traffic { green: Some(_), .. }, _)) => {}
            _ => {
                let text = "Green's requests cannot be counted: connections opened before the rollback may be in use";
                self.report(Level::Warn, "not_counted", text);
            }
        }
        self.enter(CutoverPhase::RolledBack);
    }

    fn gates_allow_progress(&mut self) -> bool {
        let gates = self.rules.gates.iter().zip(&self.tallies);
        let missing: Vec<&str> = gates
            .filter(|((_, policy), tally)| !tally.allows_progress(policy))
            .map(|((name, _), _)| name.as_str())
            .collect();
        if missing.is_empty() {
            return true;
        }
        let text = format!("The bake time has passed; waiting for a pass of: {}", missing.join(", "));
        self.announce_wait(text);
        false
    }
}
