//! The state machine of a cutover. Pure: it knows no provider, no clock and no file.
//!
//! [`Machine::task`] is what should be done now, [`Machine::handle`] applies what happened. Three rules come before all
//! others: a rollback is accepted in every state and nothing stops it; the share rises only by a step that was reached
//! in order, or by an operator; what is uncertain pauses.

mod health;
mod operator_commands;
mod rules;
mod transitions;

use std::time::Duration;

use crate::cutover::clock::Time;
use crate::cutover::gates::measurement::{Measurement, Traffic};
use crate::cutover::gates::tally::GateTally;
use crate::cutover::notice::{Level, Notice};
use crate::cutover::state::{Activity, CutoverPhase, Goal, OperatorCommand, Pause};
use crate::dns::Share;
pub use rules::CutoverRules;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Task {
    Wait,
    /// Check for drift and call the hooks before a step.
    CheckBeforeStep(usize),
    CallPostStepHook(usize),
    CheckBeforeFinish(FinishChecks),
    Write(Goal),
    /// Ask the provider whether all of its name servers have the write.
    Confirm,
    QueryNameServers(Share),
}

/// What is checked before the records become plain records of green.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FinishChecks {
    pub counters: bool,
    /// Changes by Admin API clients since the last run.
    pub drift: bool,
}

impl FinishChecks {
    /// The checks that no flag skips.
    pub fn of(rules: &CutoverRules, force: bool, accept_drift: bool) -> FinishChecks {
        FinishChecks { counters: rules.has_counters && !force, drift: !accept_drift }
    }

    pub fn any(self) -> bool {
        self.counters || self.drift
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Tick,
    ChecksPassed,
    HookPending(String),
    /// A background check failed; it is reported and repeated.
    CheckUnavailable(String),
    /// An operator must act. The first value is the code of the pause.
    Blocked(&'static str, String),
    Written,
    /// The provider says that all of its name servers have the write.
    InSync,
    RetryLater(String),
    /// The provider asks for this wait.
    Throttled(Duration, String),
    /// Every name server answers with the share.
    NameServersAgree,
    /// A name server answers with an error or with what is neither blue nor green.
    WrongAnswer(String),
    GateMeasured(usize, Measurement),
    TrafficMeasured(Traffic),
    /// The records are not as this run wrote them.
    RecordsChanged(String),
    RolledBackElsewhere(String),
    /// After a rollback the records are not blue's: a late write was applied, or another client wrote.
    RollbackUndone(String),
    /// An operator's command, and who sent it.
    Commanded(OperatorCommand, String),
}

#[derive(Debug, Clone, Default)]
pub struct Machine {
    pub rules: CutoverRules,
    pub phase: CutoverPhase,
    pub since: Time,
    /// Why the cutover is paused, and since when.
    pub paused: Option<(Pause, Time)>,
    /// The share that the provider was last known to hold.
    pub share: Share,
    /// The largest share that may have reached the provider since it was last known.
    pub requested_share: Share,
    /// When the share was last changed.
    share_since: Time,
    /// One for each gate.
    pub tallies: Vec<GateTally>,
    pub old_ttl_remaining: Duration,
    /// Since when all name servers have answered as they should.
    pub verified_at: Option<Time>,
    /// Since when blue has been idle.
    idle_since: Option<Time>,
    /// The last reading of the counters, and when.
    pub traffic: Option<(Traffic, Time)>,
    /// Consecutive failures of the current task.
    pub attempts: u32,
    retry_at: Option<Time>,
    pub rollback_reason: Option<String>,
    /// Why an operator asked for a rollback while one was under way.
    pub repeated_rollback_reason: Option<String>,
    /// Set by `undo`: pause when the step has settled.
    pause_when_settled: bool,
    /// The phase to return to once the last step has settled: it has baked before, and perhaps drained.
    pub phase_after_settling: Option<CutoverPhase>,
    /// Steps that were skipped on the way up, from 0.
    pub skipped: Vec<usize>,
    pub finish_checks: FinishChecks,
    finish_forced: bool,
    /// What a running engine did before `finish`; none in a process that does nothing else.
    finish_origin: Option<FinishOrigin>,
    /// Why the last `finish` was refused by a running engine.
    pub finish_refusal: Option<String>,
    /// Why a process of its own refused to finish.
    pub not_finished: Option<String>,
    /// The last notice about waiting, so that it is not repeated.
    announced_wait: Option<String>,
    /// The time of the event that is handled.
    now: Time,
    /// The notices for the event that is handled.
    notices: Vec<Notice>,
}

/// What continues when `finish` is refused.
#[derive(Debug, Clone)]
struct FinishOrigin {
    phase: CutoverPhase,
    verified_at: Option<Time>,
    paused: Option<(Pause, Time)>,
}

impl Machine {
    /// At the beginning of `phase`, with `share` at the provider.
    pub fn new(rules: CutoverRules, phase: CutoverPhase, share: Share, now: Time) -> Machine {
        let tallies = vec![GateTally::default(); rules.gates.len()];
        Machine {
            rules,
            phase,
            since: now,
            share,
            requested_share: share,
            share_since: now,
            tallies,
            now,
            ..Machine::default()
        }
    }

    pub fn task(&self, now: Time) -> Task {
        let CutoverPhase::Moving { goal, activity } = self.phase else { return Task::Wait };
        if self.retry_at.is_some_and(|at| at > now) || self.is_halted() || self.not_finished.is_some() {
            return Task::Wait;
        }
        match (activity, goal) {
            (Activity::Checking, Goal::Step(index)) => Task::CheckBeforeStep(index),
            (Activity::Checking, Goal::Finish) => Task::CheckBeforeFinish(self.finish_checks),
            (Activity::Checking | Activity::Applying, _) => Task::Write(goal),
            (Activity::Propagating, _) => Task::Confirm,
            (Activity::Settling, _) if self.verified_at.is_some() => Task::Wait,
            (Activity::Settling, Goal::Finish) => Task::QueryNameServers(self.share),
            (Activity::Settling, _) => Task::QueryNameServers(self.rules.share_of(goal)),
            (Activity::PostStepHook, Goal::Step(index)) => Task::CallPostStepHook(index),
            _ => Task::Wait,
        }
    }

    /// Whether the run will check for drift.
    pub fn checks_drift(&self) -> bool {
        match self.phase {
            CutoverPhase::Moving { goal: Goal::Finish, .. } => self.finish_checks.drift,
            phase => !phase.is_going_back(),
        }
    }

    /// A pause halts everything but a rollback.
    fn is_halted(&self) -> bool {
        self.paused.is_some() && !self.phase.is_going_back()
    }

    /// When time alone causes the next transition or retry.
    pub fn next_deadline(&self) -> Option<Time> {
        let end = self.ends_at().filter(|_| !self.is_halted());
        end.into_iter().chain(self.retry_at).min()
    }

    /// When the current activity ends if all goes well.
    pub fn ends_at(&self) -> Option<Time> {
        match self.phase {
            CutoverPhase::Moving { goal, activity: Activity::Baking } => match goal {
                Goal::LowerTtl => Some(self.since + self.old_ttl_remaining),
                Goal::Rollback => Some(self.since + self.rules.resolver_floor),
                Goal::Step(index) => Some(self.since + self.rules.steps.get(index)?.bake),
                Goal::Finish => None,
            },
            CutoverPhase::Moving { goal: Goal::Finish, activity: Activity::Settling } => self.verified_at,
            CutoverPhase::Moving { activity: Activity::Settling, .. } => {
                self.verified_at.map(|at| at + self.rules.settle)
            }
            CutoverPhase::Draining => self.idle_since.map(|at| at + self.rules.drain),
            _ => None,
        }
    }

    /// Whether clients may be on green because of this run: a failed gate then rolls back instead of pausing.
    fn is_exposed(&self) -> bool {
        self.share > Share::BLUE || self.requested_share > Share::BLUE
    }

    pub fn runs_gates(&self) -> bool {
        match self.phase {
            CutoverPhase::Finished
            | CutoverPhase::RolledBack
            | CutoverPhase::Moving { goal: Goal::Rollback, .. } => false,
            // The checks may take minutes, and the write may be refused: until then gates are checked.
            CutoverPhase::Moving { goal: Goal::Finish, activity } => {
                matches!(activity, Activity::Checking | Activity::Applying) && self.finish_origin.is_some()
            }
            _ => true,
        }
    }

    /// Sets the share that the provider holds. Measurements at another share no longer count.
    pub fn set_share(&mut self, share: Share, now: Time) {
        if share != self.share {
            self.share = share;
            self.share_since = now;
            self.tallies.iter_mut().for_each(GateTally::restart);
        }
    }

    /// Applies an event; returns the notices for it.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Notice> {
        self.now = now;
        self.apply(event);
        // Time may make more than one transition due.
        while self.advance() {}
        std::mem::take(&mut self.notices)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Tick => {}
            Event::ChecksPassed => self.on_checks_passed(),
            Event::HookPending(text) => {
                self.retry_at = Some(self.now + self.rules.check_every);
                self.announce_wait(text);
            }
            Event::CheckUnavailable(text) => self.announce_wait(text),
            Event::Blocked(code, text) => match self.phase {
                // Nothing was written. The next `finish` checks again.
                CutoverPhase::Moving {
                    goal: Goal::Finish,
                    activity: Activity::Checking | Activity::Applying,
                } => self.refuse_finish(text),
                _ => self.pause(code, text),
            },
            Event::Written => self.on_written(),
            Event::InSync => {
                if let CutoverPhase::Moving { goal, activity: Activity::Propagating } = self.phase {
                    self.enter(CutoverPhase::moving(goal, Activity::Settling));
                }
            }
            Event::RetryLater(text) => self.on_retry_later(None, text),
            Event::Throttled(wait, text) => self.on_retry_later(Some(wait), text),
            Event::NameServersAgree => {
                self.attempts = 0;
                self.verified_at.get_or_insert(self.now);
            }
            Event::WrongAnswer(text) => self.on_wrong_answer(text),
            Event::GateMeasured(gate, measured) => self.on_gate_measured(gate, measured),
            Event::TrafficMeasured(traffic) => self.on_traffic_measured(traffic),
            Event::RecordsChanged(text) => self.pause("changed", text),
            Event::RolledBackElsewhere(by) => self.on_rolled_back_elsewhere(&by),
            Event::RollbackUndone(text) => {
                self.report(Level::Error, "not_back", text);
                self.enter(CutoverPhase::moving(Goal::Rollback, Activity::Applying));
            }
            Event::Commanded(command, by) => self.on_command(command, &by),
        }
    }

    fn on_rolled_back_elsewhere(&mut self, by: &str) {
        self.set_share(Share::BLUE, self.now);
        self.requested_share = Share::BLUE;
        self.rollback_reason.get_or_insert_with(|| format!("rolled back by {by}"));
        self.paused = None;
        // The name servers answered for another share.
        self.verified_at = None;
        self.report(Level::Error, "rollback", format!("Rolled back by {by}"));
        self.enter(CutoverPhase::moving(Goal::Rollback, Activity::Propagating));
    }

    fn enter(&mut self, phase: CutoverPhase) {
        (self.phase, self.since) = (phase, self.now);
        (self.attempts, self.retry_at, self.announced_wait) = (0, None, None);
        if phase.is_going_back() {
            self.skipped.clear();
        }
        match phase {
            CutoverPhase::Moving { activity: activity @ (Activity::Checking | Activity::Applying), goal } => {
                self.verified_at = None;
                let Goal::Step(index) = goal else { return };
                self.skipped.retain(|skipped| *skipped < index);
                if activity == Activity::Checking {
                    let (share, steps) = (self.rules.share_of(goal), self.rules.steps.len());
                    let text = format!("Step {} of {steps}: {share} to green", index + 1);
                    self.report(Level::Info, "step", text);
                }
            }
            CutoverPhase::Draining => {
                self.idle_since = (!self.rules.has_counters).then_some(self.now);
                let text = "All new resolutions go to green; waiting for traffic on blue to stop";
                self.report(Level::Info, "draining", text);
            }
            CutoverPhase::Drained => {
                let reason = if self.rules.has_counters {
                    "Traffic on blue has stopped"
                } else {
                    "The drain time has passed"
                };
                let text = format!("{reason}; gates are checked until \"finish\"");
                self.report(Level::Info, "drained", text);
            }
            CutoverPhase::Finished => self.report(Level::Info, "finished", "Finished"),
            CutoverPhase::RolledBack => {
                self.report(Level::Error, "rolled_back", "Rolled back: new resolutions go to blue");
            }
            CutoverPhase::Moving { .. } | CutoverPhase::Ready => {}
        }
    }

    fn pause(&mut self, code: &str, reason: String) {
        let has_ended = matches!(self.phase, CutoverPhase::Finished | CutoverPhase::RolledBack);
        if self.paused.is_some() || has_ended || self.phase.is_going_back() {
            return;
        }
        self.report(Level::Warn, "paused", format!("Paused: {reason}"));
        self.retry_at = None;
        self.paused = Some((Pause { code: code.to_owned(), reason }, self.now));
    }

    fn announce_wait(&mut self, text: String) {
        self.report_wait(Level::Info, "waiting", text);
    }

    /// Reports why nothing happens, once for each reason.
    fn report_wait(&mut self, level: Level, code: &str, text: String) {
        if self.announced_wait.as_deref() != Some(&text) {
            self.report(level, code, text.clone());
            self.announced_wait = Some(text);
        }
    }

    fn report(&mut self, level: Level, code: &str, text: impl Into<String>) {
        self.notices.push(Notice { level, code: code.to_owned(), text: text.into() });
    }
}

/// The reason of an operator's rollback.
pub fn rollback_reason(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("requested by {by}") } else { format!("{by}: {reason}") }
}
