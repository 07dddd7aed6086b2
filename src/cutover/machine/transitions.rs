//! How a move goes on: from asking to writing, to settling, to baking, and to the next step; what follows from time
//! alone is here too.

use std::time::Duration;

use super::{FinishOrigin, Machine, report};
use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{GateVerdict, Measurement, Traffic};
use crate::cutover::gates::tally::GateTally;
use crate::cutover::notice::{Level, Notice};
use crate::cutover::state::{Activity, CutoverPhase, Goal};
use crate::dns::Share;
use crate::duration::compact;

/// The first wait before something is tried again; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MOST: Duration = Duration::from_secs(30);

impl Machine {
    pub(super) fn finish_activity(
        &mut self,
        from: Activity,
        to: Activity,
        now: Time,
        notices: &mut Vec<Notice>,
    ) {
        if let CutoverPhase::Moving { goal, activity } = self.phase
            && activity == from
        {
            self.enter(CutoverPhase::Moving { goal, activity: to }, now, notices);
        }
    }

    pub(super) fn on_checks_passed(&mut self, now: Time, notices: &mut Vec<Notice>) {
        match self.phase {
            CutoverPhase::Moving {
                goal: goal @ (Goal::Step(_) | Goal::Finish),
                activity: Activity::Checking,
            } => {
                if goal == Goal::Finish
                    && let Some(why) = self.gate_refusal()
                {
                    return self.refuse_finish(why, now, notices);
                }
                // An operator may have resumed while a gate fails.
                if let Some(name) = self.failing_gate().filter(|_| goal != Goal::Finish) {
                    return self.pause("gate", format!("gate {name} fails"), now, notices);
                }
                self.enter(CutoverPhase::Moving { goal, activity: Activity::Applying }, now, notices);
            }
            CutoverPhase::Moving { goal: goal @ Goal::Step(index), activity: Activity::PostStepHook } => {
                let step = self.rules.steps.get(index).copied();
                if step.is_some_and(|step| step.approval && step.share != Share::GREEN) {
                    self.enter(CutoverPhase::Moving { goal, activity: Activity::Approval }, now, notices);
                    let share = self.rules.share_of(goal);
                    report(
                        notices,
                        Level::Warn,
                        "approval",
                        format!("{share} has baked; \"promote\" goes on"),
                    );
                } else {
                    self.complete_step(index, now, notices);
                }
            }
            _ => {}
        }
    }

    /// Nothing was written yet: what drained goes on draining, and a process that was only to finish ends.
    pub(super) fn refuse_finish(&mut self, why: String, now: Time, notices: &mut Vec<Notice>) {
        report(notices, Level::Warn, "not_finished", format!("Not finished: {why}"));
        match self.finish_origin.take() {
            Some(FinishOrigin { phase, verified_at, paused }) => {
                (self.phase, self.since, self.verified_at, self.paused) = (phase, now, verified_at, paused);
                self.finish_refusal = Some(why);
            }
            None => self.not_finished = Some(why),
        }
    }

    /// What the gates that were watched until now say against the end, unless that was waived.
    fn gate_refusal(&self) -> Option<String> {
        if self.finish_forced {
            return None;
        }
        if let Some(name) = self.failing_gate() {
            return Some(format!("gate {name} fails (--force finishes anyway)"));
        }
        let unclear = |tally: &GateTally| {
            tally.last.as_ref().is_some_and(|last| last.verdict == GateVerdict::Inconclusive)
        };
        let mut gates = self.rules.gates.iter().zip(&self.tallies);
        let ((name, _), tally) = gates
            .find(|((_, policy), tally)| unclear(tally) && tally.inconclusive > policy.inconclusive_limit)?;
        let line = tally.last.as_ref().map(Measurement::line).unwrap_or_default();
        Some(format!("gate {name} cannot be judged: {line} (--force finishes anyway)"))
    }

    fn failing_gate(&self) -> Option<String> {
        let failing =
            |tally: &GateTally| tally.last.as_ref().is_some_and(|last| last.verdict == GateVerdict::Fail);
        let gates = self.rules.gates.iter().zip(&self.tallies);
        gates.filter(|(_, tally)| failing(tally)).map(|((name, _), _)| name.clone()).next()
    }

    pub(super) fn complete_step(&mut self, index: usize, now: Time, notices: &mut Vec<Notice>) {
        if index + 1 < self.rules.steps.len() {
            self.enter(CutoverPhase::toward(Goal::Step(index + 1)), now, notices);
        } else {
            self.enter(CutoverPhase::Draining, now, notices);
        }
    }

    pub(super) fn on_written(&mut self, now: Time, notices: &mut Vec<Notice>) {
        let CutoverPhase::Moving { goal, activity: Activity::Checking | Activity::Applying } = self.phase
        else {
            return;
        };
        if goal == Goal::Finish {
            self.enter(CutoverPhase::Moving { goal, activity: Activity::Propagating }, now, notices);
            return;
        }
        let share = self.rules.share_of(goal);
        self.set_share(share, now);
        self.requested_share = share;
        match goal {
            Goal::Rollback => {
                let ttl = compact(self.rules.ttl);
                let text = format!(
                    "The provider has blue again; resolvers follow within {ttl}, or later if they cache answers longer"
                );
                report(notices, Level::Error, "back", text);
            }
            Goal::LowerTtl => report(
                notices,
                Level::Info,
                "lowered",
                format!("The provider has the TTL of {} s", self.rules.ttl.as_secs()),
            ),
            _ => report(notices, Level::Info, "written", format!("The provider has {share} to green")),
        }
        self.enter(CutoverPhase::Moving { goal, activity: Activity::Propagating }, now, notices);
    }

    pub(super) fn on_retry_later(
        &mut self,
        announce_wait: Option<Duration>,
        text: String,
        now: Time,
        notices: &mut Vec<Notice>,
    ) {
        let CutoverPhase::Moving { goal, activity } = self.phase else { return };
        self.attempts += 1;
        let writing = matches!(activity, Activity::Checking | Activity::Applying);
        let overdue = now.saturating_sub(self.since) >= self.rules.settle_limit;
        if overdue && goal != Goal::Rollback {
            let code = if activity == Activity::Settling { "name_servers" } else { "provider" };
            return self.pause(code, text, now, notices);
        }
        let backoff = RETRY_FIRST * 2_u32.pow(self.attempts.min(6) - 1);
        let announce_wait =
            announce_wait.unwrap_or(if writing { backoff } else { backoff.min(self.rules.check_every) });
        self.retry_at = Some(now + announce_wait.min(RETRY_MOST));
        let level = if writing { Level::Warn } else { Level::Info };
        if self.announced_wait.as_deref() != Some(&text) {
            report(notices, level, if writing { "retry" } else { "waiting" }, text.clone());
            self.announced_wait = Some(text);
        }
    }

    /// Does the next thing that is due by time alone; whether there was one.
    pub(super) fn advance(&mut self, now: Time, notices: &mut Vec<Notice>) -> bool {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.paused.is_some() && !self.phase.is_going_back() {
            return false;
        }
        let before = self.phase;
        match self.phase {
            CutoverPhase::Ready => self.enter(CutoverPhase::toward(Goal::Step(0)), now, notices),
            _ if self.ends_at().is_none_or(|at| at > now) => {}
            CutoverPhase::Moving { goal, activity: Activity::Settling } => {
                self.on_settled(goal, now, notices);
            }
            CutoverPhase::Moving { goal, activity: Activity::Baking } => self.on_baked(goal, now, notices),
            CutoverPhase::Draining => self.on_drained(now, notices),
            _ => {}
        }
        self.phase != before
    }

    fn on_settled(&mut self, goal: Goal, now: Time, notices: &mut Vec<Notice>) {
        if goal == Goal::Finish {
            return self.enter(CutoverPhase::Finished, now, notices);
        }
        if let (Goal::Step(index), Some(after)) = (goal, self.phase_after_settling)
            && index + 1 == self.rules.steps.len()
        {
            self.phase_after_settling = None;
            return self.enter(after, now, notices);
        }
        self.enter(CutoverPhase::Moving { goal, activity: Activity::Baking }, now, notices);
        match goal {
            Goal::Step(index) => {
                let bake = self.rules.steps.get(index).map(|step| compact(step.bake)).unwrap_or_default();
                let share = self.rules.share_of(goal);
                report(
                    notices,
                    Level::Info,
                    "baking",
                    format!("Every name server answers with {share}; watching it for {bake}"),
                );
            }
            Goal::LowerTtl if !self.old_ttl_remaining.is_zero() => {
                let announce_wait = compact(self.old_ttl_remaining);
                report(
                    notices,
                    Level::Info,
                    "old_ttl",
                    format!("Waiting {announce_wait} until the old TTL has run out everywhere"),
                );
            }
            _ => {}
        }
        if std::mem::take(&mut self.pause_when_settled) {
            self.pause("undone", "one step was undone".to_owned(), now, notices);
        }
    }

    fn on_baked(&mut self, goal: Goal, now: Time, notices: &mut Vec<Notice>) {
        match goal {
            Goal::LowerTtl => self.enter(CutoverPhase::Ready, now, notices),
            Goal::Rollback => match self.traffic {
                // Read since the rollback: an older number says nothing.
                Some((Traffic { green: Some(rate), .. }, at))
                    if at >= self.since && rate > self.rules.idle_below =>
                {
                    let text = "green receives requests over connections that were open before the rollback"
                        .to_owned();
                    self.announce_wait(text, notices);
                }
                None if self.rules.has_counters
                    && now < self.since + self.rules.resolver_floor + self.first_count_timeout() => {}
                Some((Traffic { green: Some(_), .. }, _)) => {
                    self.enter(CutoverPhase::RolledBack, now, notices);
                }
                _ => {
                    let text = "No counter shows whether traffic on green has stopped: open connections may be in use";
                    report(notices, Level::Warn, "not_counted", text);
                    self.enter(CutoverPhase::RolledBack, now, notices);
                }
            },
            Goal::Step(_) => {
                if self.gates_allow_progress(notices) {
                    self.enter(CutoverPhase::Moving { goal, activity: Activity::PostStepHook }, now, notices);
                }
            }
            Goal::Finish => {}
        }
    }

    /// How long the first count may take before a rollback ends without one.
    fn first_count_timeout(&self) -> Duration {
        self.rules.check_every * 2
    }

    fn on_drained(&mut self, now: Time, notices: &mut Vec<Notice>) {
        if self.gates_allow_progress(notices) {
            self.enter(CutoverPhase::Drained, now, notices);
        }
    }

    fn gates_allow_progress(&mut self, notices: &mut Vec<Notice>) -> bool {
        let gates = self.rules.gates.iter().zip(&self.tallies);
        let held: Vec<&str> = gates
            .filter(|((_, policy), tally)| !tally.allows_progress(policy))
            .map(|((name, _), _)| name.as_str())
            .collect();
        if held.is_empty() {
            return true;
        }
        let text = format!("Bake time over, waiting for a pass of: {}", held.join(", "));
        self.announce_wait(text, notices);
        false
    }
}
