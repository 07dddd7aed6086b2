//! The state machine of a cutover. Pure: it knows no provider, no clock and no file.
//!
//! [`Machine::task`] is what should be done now, [`Machine::handle`] applies what happened. Three rules come before all
//! others: a rollback is accepted in every state and nothing stops it; the share rises only by a step that was reached
//! in order, or by an operator; what is uncertain pauses. `transitions` has the progress of a move, `health` what
//! gates, servers and counters cause, `operator_commands` what operators cause.

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
    /// Look for drift and ask the hooks before a step.
    CheckBeforeStep(usize),
    /// Ask the hook after a step.
    CallPostStepHook(usize),
    /// Look once more before the records are made green's for good.
    CheckBeforeFinish(FinishChecks),
    Write(Goal),
    /// Ask the provider whether all of its servers have it.
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
    /// The checks that the operator has not waived.
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
    /// Hooks and drift let the step begin, or the step end.
    ChecksPassed,
    HookPending(String),
    /// A background check failed; it is reported and repeated.
    CheckUnavailable(String),
    /// An operator must act; the first part is the code of the pause.
    Blocked(&'static str, String),
    Written,
    /// The provider says that all of its servers have it.
    InSync,
    /// Not yet, or it could not be said; ask again.
    RetryLater(String),
    /// The provider wants to be left alone for so long.
    Throttled(Duration, String),
    /// Every name server answers with the share.
    NameServersAgree,
    /// A name server answers with an error or with what is neither blue nor green.
    WrongAnswer(String),
    GateMeasured(usize, Measurement),
    TrafficMeasured(Traffic),
    /// The provider holds something that we did not write.
    RecordsChanged(String),
    RolledBackElsewhere(String),
    /// The records no longer are blue's: a late write was applied, or another client wrote.
    RollbackUndone(String),
    /// An operator's command, and who sent it.
    Commanded(OperatorCommand, String),
}

#[derive(Debug, Clone)]
pub struct Machine {
    pub rules: CutoverRules,
    pub phase: CutoverPhase,
    pub since: Time,
    /// Why nothing goes on, and since when.
    pub paused: Option<(Pause, Time)>,
    /// The share that the provider was last known to hold.
    pub share: Share,
    /// The largest share that may have reached the provider since it was last known.
    pub requested_share: Share,
    /// When the share was last changed.
    pub share_since: Time,
    /// What was seen of each gate.
    pub tallies: Vec<GateTally>,
    /// The rest of the old TTL.
    pub old_ttl_remaining: Duration,
    /// Whether the name servers have been asked and answer right, and since when.
    pub verified_at: Option<Time>,
    /// Since when blue has been idle.
    pub idle_since: Option<Time>,
    /// What the counters last said, and when.
    pub traffic: Option<(Traffic, Time)>,
    /// Failures in a row of what is being done.
    pub attempts: u32,
    pub retry_at: Option<Time>,
    pub rollback_reason: Option<String>,
    /// Why an operator asked for a rollback while one was under way.
    pub repeated_rollback_reason: Option<String>,
    /// Pause when the step has settled: after an undo.
    pause_when_settled: bool,
    /// Once the last step has settled, go on to here: it has baked before, and perhaps drained.
    pub phase_after_settling: Option<CutoverPhase>,
    /// Steps that were left out on the way up, from 0.
    pub skipped: Vec<usize>,
    /// The checks before the records become plain.
    pub finish_checks: FinishChecks,
    /// Whether gates must hold when it is finished.
    finish_forced: bool,
    /// Where a running engine stood when it was told to finish; none in a process that does nothing else.
    finish_origin: Option<FinishOrigin>,
    /// Why the last `finish` was refused by a running engine.
    pub finish_refusal: Option<String>,
    /// Why a process that was only to finish did not.
    pub not_finished: Option<String>,
    /// What is said last about waiting, so that it is said once.
    announced_wait: Option<String>,
}

/// What is taken up again when it is not finished.
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
            paused: None,
            share,
            requested_share: share,
            share_since: now,
            tallies,
            old_ttl_remaining: Duration::ZERO,
            verified_at: None,
            idle_since: None,
            traffic: None,
            attempts: 0,
            retry_at: None,
            rollback_reason: None,
            repeated_rollback_reason: None,
            pause_when_settled: false,
            phase_after_settling: None,
            skipped: Vec::new(),
            finish_checks: FinishChecks::default(),
            finish_forced: false,
            finish_origin: None,
            finish_refusal: None,
            not_finished: None,
            announced_wait: None,
        }
    }

    pub fn task(&self, now: Time) -> Task {
        let waits = self.retry_at.is_some_and(|at| at > now);
        let paused = self.paused.is_some() && !self.phase.is_going_back();
        let halted = paused || self.not_finished.is_some();
        if waits || halted {
            return Task::Wait;
        }
        match self.phase {
            CutoverPhase::Moving { goal, activity } => match (activity, goal) {
                (Activity::Checking, Goal::Step(index)) => Task::CheckBeforeStep(index),
                (Activity::Checking, Goal::Finish) => Task::CheckBeforeFinish(self.finish_checks),
                (Activity::Checking | Activity::Applying, _) => Task::Write(goal),
                (Activity::Propagating, _) => Task::Confirm,
                (Activity::Settling, Goal::Finish) if self.verified_at.is_none() => {
                    Task::QueryNameServers(self.share)
                }
                (Activity::Settling, _) if self.verified_at.is_none() => {
                    Task::QueryNameServers(self.rules.share_of(goal))
                }
                (Activity::PostStepHook, Goal::Step(index)) => Task::CallPostStepHook(index),
                _ => Task::Wait,
            },
            _ => Task::Wait,
        }
    }

    /// When time alone will change something, if nothing else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let own = match self.phase {
            _ if self.paused.is_some() && !self.phase.is_going_back() => None,
            CutoverPhase::Moving { activity: Activity::Settling | Activity::Baking, .. }
            | CutoverPhase::Draining => self.ends_at(),
            _ => None,
        };
        own.into_iter().chain(self.retry_at).min()
    }

    /// When the present stage ends if all goes well.
    pub fn ends_at(&self) -> Option<Time> {
        match self.phase {
            CutoverPhase::Moving { goal: Goal::LowerTtl, activity: Activity::Baking } => {
                Some(self.since + self.old_ttl_remaining)
            }
            CutoverPhase::Moving { goal: Goal::Rollback, activity: Activity::Baking } => {
                Some(self.since + self.rules.resolver_floor)
            }
            CutoverPhase::Moving { goal: Goal::Step(index), activity: Activity::Baking } => {
                Some(self.since + self.rules.steps.get(index)?.bake)
            }
            CutoverPhase::Moving { goal: Goal::Finish, activity: Activity::Settling } => self.verified_at,
            CutoverPhase::Moving { activity: Activity::Settling, .. } => {
                self.verified_at.map(|at| at + self.rules.settle)
            }
            CutoverPhase::Draining => self.idle_since.map(|at| at + self.rules.drain),
            _ => None,
        }
    }

    /// Whether clients may be on green because of us: a failed gate then goes back, and does not only pause.
    pub fn is_exposed(&self) -> bool {
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

    /// The provider was seen to hold this share. What was measured at another one counts no longer.
    pub fn set_share(&mut self, share: Share, now: Time) {
        if share != self.share {
            self.share = share;
            self.share_since = now;
            self.tallies.iter_mut().for_each(GateTally::restart);
        }
    }

    /// Applies an event; returns the notices for it.
    pub fn handle(&mut self, event: Event, now: Time) -> Vec<Notice> {
        let mut notices = Vec::new();
        self.apply(event, now, &mut notices);
        // What follows from time alone; more than one thing may be due.
        while self.advance(now, &mut notices) {}
        notices
    }

    fn apply(&mut self, event: Event, now: Time, notices: &mut Vec<Notice>) {
        match event {
            Event::Tick => {}
            Event::ChecksPassed => self.on_checks_passed(now, notices),
            Event::HookPending(text) => {
                self.retry_at = Some(now + self.rules.check_every);
                self.announce_wait(text, notices);
            }
            Event::CheckUnavailable(text) => self.announce_wait(text, notices),
            // Nothing was written. The next `finish` checks again.
            Event::Blocked(_, text)
                if matches!(
                    self.phase,
                    CutoverPhase::Moving {
                        goal: Goal::Finish,
                        activity: Activity::Checking | Activity::Applying
                    }
                ) =>
            {
                self.refuse_finish(text, now, notices);
            }
            Event::Blocked(code, text) => self.pause(code, text, now, notices),
            Event::Written => self.on_written(now, notices),
            Event::InSync => self.finish_activity(Activity::Propagating, Activity::Settling, now, notices),
            Event::RetryLater(text) => self.on_retry_later(None, text, now, notices),
            Event::Throttled(announce_wait, text) => {
                self.on_retry_later(Some(announce_wait), text, now, notices);
            }
            Event::NameServersAgree => {
                self.attempts = 0;
                self.verified_at.get_or_insert(now);
            }
            Event::WrongAnswer(text) => self.on_wrong_answer(text, now, notices),
            Event::GateMeasured(gate, measured) => self.on_gate_measured(gate, measured, now, notices),
            Event::TrafficMeasured(traffic) => self.on_traffic_measured(traffic, now, notices),
            Event::RecordsChanged(text) => {
                if !self.phase.is_going_back() {
                    self.pause("changed", text, now, notices);
                }
            }
            Event::RolledBackElsewhere(who) => {
                self.set_share(Share::BLUE, now);
                self.requested_share = Share::BLUE;
                self.rollback_reason.get_or_insert_with(|| format!("rolled back by {who}"));
                self.paused = None;
                // What name servers answered before says nothing about this.
                self.verified_at = None;
                report(notices, Level::Error, "rollback", format!("Rolled back by {who}"));
                self.enter(
                    CutoverPhase::Moving { goal: Goal::Rollback, activity: Activity::Propagating },
                    now,
                    notices,
                );
            }
            Event::RollbackUndone(text) => {
                report(notices, Level::Error, "not_back", text);
                self.enter(
                    CutoverPhase::Moving { goal: Goal::Rollback, activity: Activity::Applying },
                    now,
                    notices,
                );
            }
            Event::Commanded(command, by) => self.on_command(command, &by, now, notices),
        }
    }

    fn enter(&mut self, phase: CutoverPhase, now: Time, notices: &mut Vec<Notice>) {
        (self.phase, self.since) = (phase, now);
        (self.attempts, self.retry_at, self.announced_wait) = (0, None, None);
        if phase.is_going_back() {
            self.skipped.clear();
        }
        match phase {
            CutoverPhase::Moving { activity: Activity::Checking | Activity::Applying, goal } => {
                self.verified_at = None;
                if let Goal::Step(index) = goal {
                    self.skipped.retain(|skipped| *skipped < index);
                }
                if let (Goal::Step(index), true) = (goal, phase.activity() == Some(Activity::Checking)) {
                    let share = self.rules.share_of(goal);
                    let of = self.rules.steps.len();
                    report(
                        notices,
                        Level::Info,
                        "step",
                        format!("Step {} of {of}: {share} to green", index + 1),
                    );
                }
            }
            CutoverPhase::Draining => {
                self.idle_since = (!self.rules.has_counters).then_some(now);
                report(
                    notices,
                    Level::Info,
                    "draining",
                    "All new resolutions go to green; waiting for traffic on blue to stop",
                );
            }
            CutoverPhase::Drained => {
                let reason = if self.rules.has_counters {
                    "Traffic on blue has stopped"
                } else {
                    "The drain time is over"
                };
                report(
                    notices,
                    Level::Info,
                    "drained",
                    format!("{reason}; gates are checked until \"finish\""),
                );
            }
            CutoverPhase::Finished => report(notices, Level::Info, "finished", "Finished"),
            CutoverPhase::RolledBack => {
                report(notices, Level::Error, "rolled_back", "Rolled back: new resolutions go to blue");
            }
            _ => {}
        }
    }

    fn pause(&mut self, code: &str, reason: String, now: Time, notices: &mut Vec<Notice>) {
        let ended = matches!(self.phase, CutoverPhase::Finished | CutoverPhase::RolledBack);
        if self.paused.is_some() || ended || self.phase.is_going_back() {
            return;
        }
        report(notices, Level::Warn, "paused", format!("Paused: {reason}"));
        self.retry_at = None;
        self.paused = Some((Pause { code: code.to_owned(), reason }, now));
    }

    fn announce_wait(&mut self, text: String, notices: &mut Vec<Notice>) {
        if self.announced_wait.as_deref() != Some(&text) {
            report(notices, Level::Info, "waiting", text.clone());
            self.announced_wait = Some(text);
        }
    }
}

fn report(notices: &mut Vec<Notice>, level: Level, code: &str, text: impl Into<String>) {
    notices.push(Notice { level, code: code.to_owned(), text: text.into() });
}

/// The reason of an operator's rollback.
pub fn rollback_reason(by: &str, reason: &str) -> String {
    if reason.is_empty() { format!("asked for by {by}") } else { format!("{by}: {reason}") }
}
