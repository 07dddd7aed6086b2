//! One write: read, compare, plan, journal the intent, send, and determine the result.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::BoxFuture;

use super::background_checks::Unexpected;
use super::{Engine, RunningTask, TaskResult};
use crate::cutover::clock::Time;
use crate::cutover::environment::Hook;
use crate::cutover::journal::JournalEvent;
use crate::cutover::machine::{Event, Task};
use crate::cutover::state::{CutoverPhase, Goal};
use crate::dns::{
    Change, Desired, DnsError, DnsErrorKind, DnsResult, Marker, Observed, ObservedRecord, Precondition,
    RecordForm, RecordState, Share, Side, Ticket, Ttl, WriteOutcome,
};
use crate::failpoints;

/// The state word of a marker that a rollback leaves.
pub const ROLLED_BACK: &str = "rolled-back";
/// That of a marker that comes with the short time to live.
pub const LOWERED: &str = "ttl-lowered";
/// That of a marker that comes with a step.
pub const STEP: &str = "step";

/// What the note of a marker begins with whose lease was taken away; who did it follows.
pub const UNLOCKED: &str = "unlocked by ";

/// What the note of a step's marker begins with where steps were left out; their numbers follow, from 1.
pub const SKIPPED: &str = "skipped ";

/// How long a lease lasts beyond the stage that it was taken for, in minutes.
const LEASE_MARGIN: i64 = 15;

impl Engine {
    pub(super) fn read_before_write(&self) -> BoxFuture<'static, TaskResult> {
        let (provider, target) = (self.environment.provider.clone(), self.target.clone());
        Box::pin(async move { TaskResult::Read(provider.read(&target).await) })
    }

    /// Plans and sends the write, now that the provider's records are known.
    pub(super) fn write(&mut self, task: Task, observed: DnsResult<Observed>, now: Time) {
        let Task::Write(goal) = task else { return };
        let observed = match (observed, &self.last) {
            (Ok(observed), _) => observed,
            // A rollback that cannot read writes over what was there last.
            (Err(_), Some(last)) if goal == Goal::Rollback && self.machine.attempts % 2 == 1 => last.clone(),
            (Err(error), _) => return self.on_write_error(goal, &error, now),
        };
        if self.already_written(&observed, goal, now) {
            return;
        }
        if goal != Goal::Rollback {
            match self.unexpected(&observed) {
                Some(Unexpected::TakenOver(by)) => {
                    self.taken_over = Some(by);
                    return;
                }
                Some(Unexpected::RolledBack(by)) => return self.rolled_back_by(&observed, by, now),
                Some(Unexpected::Changed(text)) => {
                    return self.handle_event(Event::Blocked("changed", text), now);
                }
                None => {}
            }
        }
        let desired = self.desired(goal, &observed);
        let change = match self.environment.provider.plan(&self.target, &observed, &desired) {
            Ok(change) => change,
            Err(error) => return self.on_write_error(goal, &error, now),
        };
        self.last = Some(observed);
        self.manual_command = Some(self.manual_rollback());
        let recorded_phase =
            self.record(JournalEvent::Intent { toward: goal, change: Box::new(change.clone()) });
        if !recorded_phase && goal != Goal::Rollback {
            let text = "the journal cannot be written, and nothing is sent without it".to_owned();
            return self.handle_event(Event::Blocked("journal", text), now);
        }
        self.machine.requested_share = self.machine.requested_share.max(desired_share(&desired));
        self.send(task, change, now);
    }

    fn send(&mut self, task: Task, change: Change, now: Time) {
        let provider = self.environment.provider.clone();
        self.pending = Some(change.clone());
        // What was read before the write says nothing after it.
        (self.provider_check, self.background_query) = (None, None);
        let work = async move {
            failpoints::reached("cutover-intent").await;
            let result = provider.apply(&change).await;
            failpoints::reached("cutover-applied").await;
            TaskResult::Applied(Box::new(change), result)
        };
        self.running = Some(RunningTask { task, sent: true, since: now, work: Box::pin(work) });
    }

    /// Whether an earlier write with an unknown result was applied, so that it is not repeated.
    fn already_written(&mut self, observed: &Observed, goal: Goal, now: Time) -> bool {
        let Some(pending) = self.pending.take() else { return false };
        if pending.outcome(observed) != WriteOutcome::Applied {
            return false;
        }
        self.identity.generation = pending.after.generation();
        self.machine.set_share(desired_share(&pending.desired), now);
        if pending.desired.form == self.desired(goal, observed).form {
            self.last = Some(observed.clone());
            self.record(JournalEvent::Result { written: true, text: "found at the provider".to_owned() });
            self.on_written(goal, None, now);
            return true;
        }
        false
    }

    pub(super) fn on_applied(&mut self, task: Task, change: Change, result: DnsResult<Ticket>, now: Time) {
        let current = self.machine.task(now) == task;
        match result {
            Ok(ticket) => {
                self.record(JournalEvent::Result { written: true, text: "accepted".to_owned() });
                self.pending = None;
                self.identity.generation = change.after.generation();
                self.last = Some(change.after.clone());
                self.machine.set_share(desired_share(&change.desired), now);
                if let (true, Task::Write(goal)) = (current, task) {
                    self.on_written(goal, Some(ticket), now);
                }
            }
            Err(error) if error.may_be_applied() || error.kind == DnsErrorKind::Conflict => {
                self.record(JournalEvent::Result { written: false, text: error.to_string() });
                let (provider, target) = (self.environment.provider.clone(), self.target.clone());
                let reason = error.to_string();
                let work =
                    async move { TaskResult::Reread(Box::new(change), reason, provider.read(&target).await) };
                self.running = Some(RunningTask { task, sent: false, since: now, work: Box::pin(work) });
            }
            Err(error) => {
                self.record(JournalEvent::Result { written: false, text: error.to_string() });
                self.pending = None;
                if let (true, Task::Write(goal)) = (current, task) {
                    self.on_write_error(goal, &error, now);
                }
            }
        }
    }

    /// After a write with an unknown result: the provider's records decide.
    pub(super) fn on_reread(
        &mut self,
        task: Task,
        change: Change,
        reason: String,
        observed: DnsResult<Observed>,
        now: Time,
    ) {
        let Task::Write(goal) = task else { return };
        let current = self.machine.task(now) == task;
        match observed {
            Ok(observed) => match change.outcome(&observed) {
                WriteOutcome::Applied => {
                    self.record(JournalEvent::Result {
                        written: true,
                        text: "found at the provider".to_owned(),
                    });
                    self.pending = None;
                    self.identity.generation = change.after.generation();
                    self.machine.set_share(desired_share(&change.desired), now);
                    self.last = Some(observed);
                    if current {
                        self.on_written(goal, None, now);
                    }
                }
                // It may be applied later: the next attempt reads first.
                WriteOutcome::NotApplied if current => self.handle_event(Event::RetryLater(reason), now),
                WriteOutcome::Conflicting if current && goal == Goal::Rollback => {
                    self.handle_event(Event::RetryLater(reason), now);
                }
                WriteOutcome::Conflicting if current => {
                    self.pending = None;
                    match self.unexpected(&observed) {
                        Some(Unexpected::TakenOver(by)) => self.taken_over = Some(by),
                        Some(Unexpected::RolledBack(by)) => self.rolled_back_by(&observed, by, now),
                        Some(Unexpected::Changed(text)) => {
                            self.handle_event(Event::Blocked("changed", text), now);
                        }
                        None => self.handle_event(Event::RetryLater(reason), now),
                    }
                }
                WriteOutcome::NotApplied | WriteOutcome::Conflicting => {}
            },
            Err(error) if current => self.handle_event(later(&error), now),
            Err(_) => {}
        }
    }

    fn on_written(&mut self, goal: Goal, ticket: Option<Ticket>, now: Time) {
        self.ticket = ticket;
        self.by_queries = None;
        if let Some(marker) = self.last.as_ref().and_then(|last| last.marker.clone()) {
            self.record(JournalEvent::Marker { marker });
        }
        self.handle_event(Event::Written, now);
        if goal == Goal::Rollback {
            let hook = self.environment.integrations.hook(Hook::Rollback, self.hook_body("rollback"));
            self.notifications.push(Box::pin(async move {
                if let Some(reply) = hook.await {
                    tracing::info!(?reply, "The rollback hook was called.");
                }
            }));
        }
    }

    /// A rollback is tried again whatever the error; anything else only where that may help.
    fn on_write_error(&mut self, goal: Goal, error: &DnsError, now: Time) {
        let event = if goal == Goal::Rollback || error.is_temporary() {
            later(error)
        } else if error.kind == DnsErrorKind::Conflict {
            Event::Blocked("changed", error.to_string())
        } else {
            Event::Blocked("provider", error.to_string())
        };
        self.handle_event(event, now);
    }

    /// Whether the provider holds something else than this run wrote.
    pub(super) fn unexpected(&self, observed: &Observed) -> Option<Unexpected> {
        let (ours, share) = (&self.identity, observed.share());
        match &observed.marker {
            Some(marker) if marker.run != ours.run => {
                Some(Unexpected::TakenOver(describe_takeover(marker, "began another run")))
            }
            Some(marker) if marker.generation > ours.generation && marker.state == ROLLED_BACK => {
                let (owner, note) = (&marker.owner, &marker.note);
                Some(Unexpected::RolledBack(if note.starts_with(owner.as_str()) {
                    // With their own reason.
                    note.clone()
                } else if note.is_empty() || note.contains(owner.as_str()) {
                    owner.clone()
                } else {
                    format!("{owner} ({note})")
                }))
            }
            Some(marker) if marker.generation > ours.generation => {
                Some(Unexpected::TakenOver(describe_takeover(marker, "took over")))
            }
            Some(marker) if marker.generation < ours.generation => {
                Some(Unexpected::Changed("the marker at the provider is older than what we wrote".to_owned()))
            }
            // Whoever has finished it from elsewhere leaves nothing to watch.
            None if ours.generation > 0
                && self.machine.phase == CutoverPhase::Drained
                && is_finished(observed) =>
            {
                Some(Unexpected::TakenOver("another process has finished it".to_owned()))
            }
            None if ours.generation > 0 => {
                Some(Unexpected::Changed("the marker at the provider was deleted".to_owned()))
            }
            _ if share == Some(self.machine.share) => None,
            _ => Some(Unexpected::Changed(format!(
                "the records were changed: the provider has {}, not {}",
                describe_records(observed),
                self.machine.share
            ))),
        }
    }

    /// What a goal wants at the provider.
    fn desired(&self, goal: Goal, observed: &Observed) -> Desired {
        let ours = &self.identity;
        if goal == Goal::Finish {
            let arm = if self.machine.share == Share::GREEN { Side::Green } else { Side::Blue };
            let ttl = match ours.final_ttl.filter(|_| arm == Side::Green) {
                Some(ttl) => Ttl::All(ttl),
                None => Ttl::Each(ours.originals.clone()),
            };
            return Desired {
                form: RecordForm::Plain(arm),
                ttl,
                marker: None,
                precondition: Precondition::Unchanged,
            };
        }
        let (share, wall) = (self.machine.rules.share_of(goal), self.environment.clock.wall());
        let bake = match goal {
            // Whoever watches the last step watches it drain.
            Goal::Step(index) => self.machine.rules.steps.get(index).map(|step| {
                let drain =
                    if step.share == Share::GREEN { self.machine.rules.drain } else { Duration::ZERO };
                step.bake + drain
            }),
            Goal::LowerTtl => Some(self.machine.old_ttl_remaining),
            Goal::Rollback | Goal::Finish => None,
        };
        let lease = bake.and_then(|bake| TimeDelta::from_std(bake).ok()).unwrap_or_default();
        let marker = Marker {
            run: ours.run,
            generation: observed.generation().max(ours.generation) + 1,
            state: match goal {
                Goal::Rollback => ROLLED_BACK,
                Goal::LowerTtl => LOWERED,
                Goal::Step(_) | Goal::Finish => STEP,
            }
            .to_owned(),
            step: match goal {
                Goal::Step(index) => u32::try_from(index).unwrap_or(u32::MAX),
                _ => 0,
            },
            share,
            started_at: ours.started_at,
            written_at: wall,
            owner: ours.owner.clone(),
            lease_until: (goal != Goal::Rollback).then(|| wall + lease + TimeDelta::minutes(LEASE_MARGIN)),
            originals: ours.originals.clone(),
            note: match goal {
                Goal::Rollback => self.machine.rollback_reason.clone().unwrap_or_default(),
                Goal::Step(_) if !self.machine.skipped.is_empty() => {
                    let numbers = self.machine.skipped.iter().map(|index| (index + 1).to_string());
                    format!("{SKIPPED}{}", numbers.collect::<Vec<_>>().join(","))
                }
                _ => String::new(),
            },
        };
        let ttl = u32::try_from(self.machine.rules.ttl.as_secs()).unwrap_or(u32::MAX);
        Desired {
            form: RecordForm::Split(share),
            ttl: Ttl::All(ttl),
            marker: Some(marker),
            precondition: if goal == Goal::Rollback {
                Precondition::Overwrite
            } else {
                Precondition::Unchanged
            },
        }
    }

    /// The command that rolls back without kongferry, from the current records.
    fn manual_rollback(&self) -> String {
        let Some(observed) = &self.last else { return String::new() };
        let back = self.desired(Goal::Rollback, observed);
        match self.environment.provider.plan(&self.target, observed, &back) {
            Ok(change) => self.environment.provider.manual_command(&change),
            Err(error) => format!("# {error}"),
        }
    }
}

/// An error that may pass, as the rules see it.
pub(super) fn later(error: &DnsError) -> Event {
    match error.kind {
        DnsErrorKind::Throttled { retry_after: Some(wait) } => Event::Throttled(wait, error.to_string()),
        _ => Event::RetryLater(error.to_string()),
    }
}

/// The share that a change brings about.
fn desired_share(desired: &Desired) -> Share {
    match desired.form {
        RecordForm::Split(share) => share,
        RecordForm::Plain(Side::Green) => Share::GREEN,
        RecordForm::Plain(Side::Blue) => Share::BLUE,
        RecordForm::AsFound => desired.marker.as_ref().map(|marker| marker.share).unwrap_or_default(),
    }
}

fn is_finished(observed: &Observed) -> bool {
    let ordinary = |record: &ObservedRecord| record.state == RecordState::Plain(Side::Green);
    observed.marker_text.is_none() && observed.records.iter().all(ordinary)
}

fn describe_takeover(marker: &Marker, did: &str) -> String {
    // The marker has this process as owner: its lease was released.
    if marker.note.starts_with(UNLOCKED) {
        return marker.note.clone();
    }
    format!("{} {did} at {}", marker.owner, marker.written_at.format("%Y-%m-%d %H:%M:%S UTC"))
}

pub fn describe_records(observed: &Observed) -> String {
    match observed.share() {
        Some(share) => format!("{share} to green"),
        None => {
            let states: Vec<String> = observed
                .records
                .iter()
                .map(|record| match &record.state {
                    crate::dns::RecordState::Absent => format!("no {}", record.key),
                    crate::dns::RecordState::Foreign(text) => format!("{}: {text}", record.key),
                    state => {
                        format!("{}: {}", record.key, state.share().map_or("?".to_owned(), |s| s.to_string()))
                    }
                })
                .collect();
            states.join(", ")
        }
    }
}
