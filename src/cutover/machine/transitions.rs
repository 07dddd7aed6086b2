//! How a move goes on: from asking to writing, to settling, to baking, and to the next step; what follows from time
//! alone is here too.

use std::time::Duration;

use super::{FinishFrom, Machine, say};
use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{Measurement, Traffic, Verdict};
use crate::cutover::gates::tally::Tally;
use crate::cutover::notice::{Level, Said};
use crate::cutover::state::{Goal, Phase, Stage};
use crate::dns::Share;
use crate::duration::compact;

/// The first wait before something is tried again; each further one is twice as long.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest.
const RETRY_MOST: Duration = Duration::from_secs(30);

impl Machine {
    pub(super) fn on_stage(&mut self, from: Stage, to: Stage, now: Time, said: &mut Vec<Said>) {
        if let Phase::Moving { goal, stage } = self.phase
            && stage == from
        {
            self.go(Phase::Moving { goal, stage: to }, now, said);
        }
    }

    pub(super) fn on_yes(&mut self, now: Time, said: &mut Vec<Said>) {
        match self.phase {
            Phase::Moving { goal: goal @ (Goal::Step(_) | Goal::Finish), stage: Stage::Asking } => {
                if goal == Goal::Finish
                    && let Some(why) = self.gate_against_finish()
                {
                    return self.do_not_finish(why, now, said);
                }
                // Somebody may have said "resume" while a gate still fails.
                if let Some(name) = self.failing_gate().filter(|_| goal != Goal::Finish) {
                    return self.pause("gate", format!("gate {name} fails"), now, said);
                }
                self.go(Phase::Moving { goal, stage: Stage::Applying }, now, said);
            }
            Phase::Moving { goal: goal @ Goal::Step(index), stage: Stage::Leaving } => {
                let step = self.rules.steps.get(index).copied();
                if step.is_some_and(|step| step.approval && step.share != Share::GREEN) {
                    self.go(Phase::Moving { goal, stage: Stage::Approval }, now, said);
                    let share = self.rules.share_of(goal);
                    say(said, Level::Warn, "approval", format!("{share} has baked; \"promote\" goes on"));
                } else {
                    self.leave_step(index, now, said);
                }
            }
            _ => {}
        }
    }

    /// Nothing was written yet: what drained goes on draining, and a process that was only to finish ends.
    pub(super) fn do_not_finish(&mut self, why: String, now: Time, said: &mut Vec<Said>) {
        say(said, Level::Warn, "not_finished", format!("Not finished: {why}"));
        match self.finish_from.take() {
            Some(FinishFrom { phase, verified, paused }) => {
                (self.phase, self.since, self.verified, self.paused) = (phase, now, verified, paused);
                self.against_finish = Some(why);
            }
            None => self.not_finished = Some(why),
        }
    }

    /// What the gates that were watched until now say against the end, unless that was waived.
    fn gate_against_finish(&self) -> Option<String> {
        if self.finish_forced {
            return None;
        }
        if let Some(name) = self.failing_gate() {
            return Some(format!("gate {name} fails (--force finishes all the same)"));
        }
        let unclear =
            |tally: &Tally| tally.last.as_ref().is_some_and(|last| last.verdict == Verdict::Inconclusive);
        let mut gates = self.rules.gates.iter().zip(&self.tallies);
        let ((name, _), tally) = gates
            .find(|((_, policy), tally)| unclear(tally) && tally.inconclusive > policy.inconclusive_limit)?;
        let line = tally.last.as_ref().map(Measurement::line).unwrap_or_default();
        Some(format!("gate {name} cannot be judged: {line} (--force finishes all the same)"))
    }

    fn failing_gate(&self) -> Option<String> {
        let failing = |tally: &Tally| tally.last.as_ref().is_some_and(|last| last.verdict == Verdict::Fail);
        let gates = self.rules.gates.iter().zip(&self.tallies);
        gates.filter(|(_, tally)| failing(tally)).map(|((name, _), _)| name.clone()).next()
    }

    pub(super) fn leave_step(&mut self, index: usize, now: Time, said: &mut Vec<Said>) {
        if index + 1 < self.rules.steps.len() {
            self.go(Phase::toward(Goal::Step(index + 1)), now, said);
        } else {
            self.go(Phase::Draining, now, said);
        }
    }

    pub(super) fn on_written(&mut self, now: Time, said: &mut Vec<Said>) {
        let Phase::Moving { goal, stage: Stage::Asking | Stage::Applying } = self.phase else { return };
        if goal == Goal::Finish {
            self.go(Phase::Moving { goal, stage: Stage::Propagating }, now, said);
            return;
        }
        let share = self.rules.share_of(goal);
        self.holds(share, now);
        self.asked = share;
        match goal {
            Goal::Back => {
                let ttl = compact(self.rules.ttl);
                let text = format!(
                    "The provider has blue again; resolvers follow within {ttl}, and those that keep answers longer when they let go"
                );
                say(said, Level::Error, "back", text);
            }
            Goal::Lower => say(
                said,
                Level::Info,
                "lowered",
                format!("The provider has the TTL of {} s", self.rules.ttl.as_secs()),
            ),
            _ => say(said, Level::Info, "written", format!("The provider has {share} to green")),
        }
        self.go(Phase::Moving { goal, stage: Stage::Propagating }, now, said);
    }

    pub(super) fn on_later(&mut self, wait: Option<Duration>, text: String, now: Time, said: &mut Vec<Said>) {
        let Phase::Moving { goal, stage } = self.phase else { return };
        self.attempts += 1;
        let writing = matches!(stage, Stage::Asking | Stage::Applying);
        let overdue = now.saturating_sub(self.since) >= self.rules.settle_limit;
        if overdue && goal != Goal::Back {
            let code = if stage == Stage::Settling { "name_servers" } else { "provider" };
            return self.pause(code, text, now, said);
        }
        let backoff = RETRY_FIRST * 2_u32.pow(self.attempts.min(6) - 1);
        let wait = wait.unwrap_or(if writing { backoff } else { backoff.min(self.rules.look_every) });
        self.retry_at = Some(now + wait.min(RETRY_MOST));
        let level = if writing { Level::Warn } else { Level::Info };
        if self.waiting.as_deref() != Some(&text) {
            say(said, level, if writing { "retry" } else { "waiting" }, text.clone());
            self.waiting = Some(text);
        }
    }

    /// Does the next thing that is due by time alone; whether there was one.
    pub(super) fn pass_time(&mut self, now: Time, said: &mut Vec<Said>) -> bool {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.paused.is_some() && !self.phase.is_going_back() {
            return false;
        }
        let before = self.phase;
        match self.phase {
            Phase::Ready => self.go(Phase::toward(Goal::Step(0)), now, said),
            _ if self.ends_at().is_none_or(|at| at > now) => {}
            Phase::Moving { goal, stage: Stage::Settling } => self.settled(goal, now, said),
            Phase::Moving { goal, stage: Stage::Baking } => self.baked(goal, now, said),
            Phase::Draining => self.drained(now, said),
            _ => {}
        }
        self.phase != before
    }

    fn settled(&mut self, goal: Goal, now: Time, said: &mut Vec<Said>) {
        if goal == Goal::Finish {
            return self.go(Phase::Finished, now, said);
        }
        if let (Goal::Step(index), Some(after)) = (goal, self.drain_after)
            && index + 1 == self.rules.steps.len()
        {
            self.drain_after = None;
            return self.go(after, now, said);
        }
        self.go(Phase::Moving { goal, stage: Stage::Baking }, now, said);
        match goal {
            Goal::Step(index) => {
                let bake = self.rules.steps.get(index).map(|step| compact(step.bake)).unwrap_or_default();
                let share = self.rules.share_of(goal);
                say(
                    said,
                    Level::Info,
                    "baking",
                    format!("Every name server answers with {share}; watching it for {bake}"),
                );
            }
            Goal::Lower if !self.old_ttl.is_zero() => {
                let wait = compact(self.old_ttl);
                say(
                    said,
                    Level::Info,
                    "old_ttl",
                    format!("Waiting {wait} until the old TTL has run out everywhere"),
                );
            }
            _ => {}
        }
        if std::mem::take(&mut self.hold) {
            self.pause("undone", "one step was taken back".to_owned(), now, said);
        }
    }

    fn baked(&mut self, goal: Goal, now: Time, said: &mut Vec<Said>) {
        match goal {
            Goal::Lower => self.go(Phase::Ready, now, said),
            Goal::Back => match self.traffic {
                // Read since the rollback: an older number says nothing.
                Some((Traffic { green: Some(rate), .. }, at))
                    if at >= self.since && rate > self.rules.still_below =>
                {
                    let text = "green still gets requests over connections that were open".to_owned();
                    self.wait(text, said);
                }
                None if self.rules.has_counters
                    && now < self.since + self.rules.resolver_floor + self.patience() => {}
                Some((Traffic { green: Some(_), .. }, _)) => self.go(Phase::RolledBack, now, said),
                _ => {
                    let text =
                        "Nothing tells whether green is still: connections that were open may still be used";
                    say(said, Level::Warn, "not_counted", text);
                    self.go(Phase::RolledBack, now, said);
                }
            },
            Goal::Step(_) => {
                if self.gates_let_on(said) {
                    self.go(Phase::Moving { goal, stage: Stage::Leaving }, now, said);
                }
            }
            Goal::Finish => {}
        }
    }

    /// How long a first look at the counters may take before a rollback ends without one.
    fn patience(&self) -> Duration {
        self.rules.look_every * 2
    }

    fn drained(&mut self, now: Time, said: &mut Vec<Said>) {
        if self.gates_let_on(said) {
            self.go(Phase::Drained, now, said);
        }
    }

    fn gates_let_on(&mut self, said: &mut Vec<Said>) -> bool {
        let gates = self.rules.gates.iter().zip(&self.tallies);
        let held: Vec<&str> = gates
            .filter(|((_, policy), tally)| !tally.lets_on(policy))
            .map(|((name, _), _)| name.as_str())
            .collect();
        if held.is_empty() {
            return true;
        }
        let text = format!("Baked, and waiting for a pass of: {}", held.join(", "));
        self.wait(text, said);
        false
    }
}
