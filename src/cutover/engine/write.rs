//! One write: read, compare, plan, journal the intent, send, and determine the result.

use std::cmp::Ordering;
use std::time::Duration;

use chrono::TimeDelta;
use futures::future::BoxFuture;

use super::background_checks::Unexpected;
use super::{Engine, RunningTask, TaskResult};
use crate::cutover::environment::Hook;
use crate::cutover::journal::JournalEvent;
use crate::cutover::machine::{Event, Task};
use crate::cutover::marker::{
    LOWERED, ROLLED_BACK, SKIPPED, STEP, describe_records, describe_rollback, describe_takeover,
};
use crate::cutover::state::{CutoverPhase, Goal};
use crate::dns::{
    Change, Desired, DnsError, DnsErrorKind, DnsResult, Marker, Observed, ObservedRecord, Precondition,
    RecordForm, RecordState, Share, Side, Ticket, Ttl, WriteOutcome,
};
use crate::failpoints;

/// How long a lease lasts beyond the activity for which it was taken.
const LEASE_MARGIN: TimeDelta = TimeDelta::minutes(15);

impl Engine {
    pub(super) fn read_before_write(&self) -> BoxFuture<'static, TaskResult> {
        let (provider, target) = (self.environment.provider.clone(), self.target.clone());
        Box::pin(async move { TaskResult::Read(provider.read(&target).await) })
    }

    /// Plans and sends the write, now that the provider's records are known.
    pub(super) fn write(&mut self, task: Task, observed: DnsResult<Observed>) {
        let Task::Write(goal) = task else { return };
        let observed = match (observed, &self.observed) {
            (Ok(observed), _) => observed,
            // A rollback that cannot read overwrites the last known records.
            (Err(_), Some(last)) if goal == Goal::Rollback && self.machine.attempts % 2 == 1 => last.clone(),
            (Err(error), _) => return self.on_write_error(goal, &error),
        };
        if self.already_written(&observed, goal) {
            return;
        }
        if goal != Goal::Rollback
            && let Some(unexpected) = self.unexpected(&observed)
        {
            return self.on_unexpected(unexpected, &observed);
        }
        let desired = self.desired(goal, &observed);
        let change = match self.environment.provider.plan(&self.target, &observed, &desired) {
            Ok(change) => change,
            Err(error) => return self.on_write_error(goal, &error),
        };
        self.observed = Some(observed);
        self.manual_command = Some(self.manual_rollback());
        let is_recorded =
            self.record(JournalEvent::Intent { toward: goal, change: Box::new(change.clone()) });
        if !is_recorded && goal != Goal::Rollback {
            let text = "the journal cannot be written, so nothing was sent to the provider".to_owned();
            return self.handle_event(Event::Blocked("journal", text));
        }
        self.machine.requested_share = self.machine.requested_share.max(desired_share(&desired));
        self.send(task, change);
    }

    fn on_unexpected(&mut self, unexpected: Unexpected, observed: &Observed) {
        match unexpected {
            Unexpected::TakenOver(by) => self.taken_over = Some(by),
            Unexpected::RolledBack(by) => self.rolled_back_by(observed, by),
            Unexpected::Changed(text) => self.handle_event(Event::Blocked("changed", text)),
        }
    }

    fn send(&mut self, task: Task, change: Change) {
        let provider = self.environment.provider.clone();
        self.pending = Some(change.clone());
        // Checks from before the write do not count after it.
        (self.provider_check, self.background_query) = (None, None);
        let work = async move {
            failpoints::reached("cutover-intent").await;
            let result = provider.apply(&change).await;
            failpoints::reached("cutover-applied").await;
            TaskResult::Applied(Box::new(change), result)
        };
        self.running = Some(RunningTask { task, sent: true, since: self.now(), work: Box::pin(work) });
    }

    /// Whether an earlier write with an unknown result was applied, so that it is not repeated.
    fn already_written(&mut self, observed: &Observed, goal: Goal) -> bool {
        let Some(pending) = self.pending.take() else { return false };
        if pending.outcome(observed) != WriteOutcome::Applied {
            return false;
        }
        self.accept(&pending);
        if pending.desired.form != self.desired(goal, observed).form {
            return false;
        }
        self.observed = Some(observed.clone());
        self.record_result(true, "found at the provider");
        self.on_written(goal, None);
        true
    }

    /// The provider holds what `change` wrote.
    fn accept(&mut self, change: &Change) {
        self.pending = None;
        self.identity.generation = change.after.generation();
        self.machine.set_share(desired_share(&change.desired), self.now());
    }

    fn record_result(&mut self, written: bool, text: &str) {
        self.record(JournalEvent::Result { written, text: text.to_owned() });
    }

    pub(super) fn on_applied(&mut self, task: Task, change: Change, result: DnsResult<Ticket>) {
        let Task::Write(goal) = task else { return };
        let is_current = self.machine.task(self.now()) == task;
        match result {
            Ok(ticket) => {
                self.record_result(true, "accepted");
                self.accept(&change);
                self.observed = Some(change.after);
                if is_current {
                    self.on_written(goal, Some(ticket));
                }
            }
            Err(error) if error.may_be_applied() || error.kind == DnsErrorKind::Conflict => {
                let reason = error.to_string();
                self.record_result(false, &reason);
                let (provider, target) = (self.environment.provider.clone(), self.target.clone());
                let work =
                    async move { TaskResult::Reread(Box::new(change), reason, provider.read(&target).await) };
                self.running =
                    Some(RunningTask { task, sent: false, since: self.now(), work: Box::pin(work) });
            }
            Err(error) => {
                self.record_result(false, &error.to_string());
                self.pending = None;
                if is_current {
                    self.on_write_error(goal, &error);
                }
            }
        }
    }

    /// After a write with an unknown result the provider's records decide.
    pub(super) fn on_reread(
        &mut self,
        task: Task,
        change: Change,
        reason: String,
        observed: DnsResult<Observed>,
    ) {
        let Task::Write(goal) = task else { return };
        let is_current = self.machine.task(self.now()) == task;
        let outcome = observed.as_ref().ok().map(|observed| change.outcome(observed));
        match (observed, outcome) {
            (Ok(observed), Some(WriteOutcome::Applied)) => {
                self.record_result(true, "found at the provider");
                self.accept(&change);
                self.observed = Some(observed);
                if is_current {
                    self.on_written(goal, None);
                }
            }
            _ if !is_current => {}
            (Ok(observed), Some(WriteOutcome::Conflicting)) if goal != Goal::Rollback => {
                self.pending = None;
                match self.unexpected(&observed) {
                    Some(unexpected) => self.on_unexpected(unexpected, &observed),
                    None => self.handle_event(Event::RetryLater(reason)),
                }
            }
            (Err(error), _) => self.handle_event(later(&error)),
            // It may be applied later: the next attempt reads first.
            _ => self.handle_event(Event::RetryLater(reason)),
        }
    }

    fn on_written(&mut self, goal: Goal, ticket: Option<Ticket>) {
        self.ticket = ticket;
        self.by_queries = None;
        if let Some(marker) = self.observed.as_ref().and_then(|observed| observed.marker.clone()) {
            self.record(JournalEvent::Marker { marker });
        }
        self.handle_event(Event::Written);
        if goal == Goal::Rollback {
            let integrations = self.environment.integrations.clone();
            let hook = integrations.hook(Hook::Rollback, self.hook_body("rollback"));
            self.notifications.push(Box::pin(async move {
                if let Some(reply) = hook.await {
                    tracing::info!(?reply, "The rollback hook was called.");
                }
            }));
        }
    }

    /// A rollback is retried whatever the error; anything else only where that may help.
    fn on_write_error(&mut self, goal: Goal, error: &DnsError) {
        self.handle_event(if goal == Goal::Rollback || error.is_temporary() {
            later(error)
        } else if error.kind == DnsErrorKind::Conflict {
            Event::Blocked("changed", error.to_string())
        } else {
            Event::Blocked("provider", error.to_string())
        });
    }

    /// What the provider holds other than this run wrote.
    pub(super) fn unexpected(&self, observed: &Observed) -> Option<Unexpected> {
        let identity = &self.identity;
        let Some(marker) = &observed.marker else {
            return match identity.generation {
                0 => self.unexpected_records(observed),
                // Another process may finish what has drained.
                _ if self.machine.phase == CutoverPhase::Drained && is_finished(observed) => {
                    Some(Unexpected::TakenOver("another process has finished the cutover".to_owned()))
                }
                _ => Some(Unexpected::Changed("the marker at the provider was deleted".to_owned())),
            };
        };
        if marker.run != identity.run {
            return Some(Unexpected::TakenOver(describe_takeover(marker, "started another run")));
        }
        match marker.generation.cmp(&identity.generation) {
            Ordering::Greater if marker.state == ROLLED_BACK => {
                Some(Unexpected::RolledBack(describe_rollback(marker)))
            }
            Ordering::Greater => Some(Unexpected::TakenOver(describe_takeover(marker, "took over"))),
            Ordering::Less => Some(Unexpected::Changed(
                "the marker at the provider is older than the one that this process wrote".to_owned(),
            )),
            Ordering::Equal => self.unexpected_records(observed),
        }
    }

    fn unexpected_records(&self, observed: &Observed) -> Option<Unexpected> {
        let share = self.machine.share;
        (observed.share() != Some(share)).then(|| {
            Unexpected::Changed(format!(
                "the records were changed: the provider has {} instead of {share}",
                describe_records(observed)
            ))
        })
    }

    fn desired(&self, goal: Goal, observed: &Observed) -> Desired {
        if goal == Goal::Finish {
            let side = if self.machine.share == Share::GREEN { Side::Green } else { Side::Blue };
            let ttl = match self.identity.final_ttl.filter(|_| side == Side::Green) {
                Some(ttl) => Ttl::All(ttl),
                None => Ttl::Each(self.identity.originals.clone()),
            };
            let precondition = Precondition::Unchanged;
            return Desired { form: RecordForm::Plain(side), ttl, marker: None, precondition };
        }
        Desired {
            form: RecordForm::Split(self.machine.rules.share_of(goal)),
            ttl: Ttl::All(u32::try_from(self.machine.rules.ttl.as_secs()).unwrap_or(u32::MAX)),
            marker: Some(self.marker(goal, observed)),
            precondition: match goal {
                Goal::Rollback => Precondition::Overwrite,
                _ => Precondition::Unchanged,
            },
        }
    }

    fn marker(&self, goal: Goal, observed: &Observed) -> Marker {
        let (identity, machine) = (&self.identity, &self.machine);
        let written_at = self.environment.clock.wall();
        let (state, step, note) = match goal {
            Goal::Rollback => (ROLLED_BACK, 0, machine.rollback_reason.clone().unwrap_or_default()),
            Goal::LowerTtl | Goal::Finish => (LOWERED, 0, String::new()),
            Goal::Step(index) => (STEP, index, skipped_note(&machine.skipped)),
        };
        Marker {
            run: identity.run,
            generation: observed.generation().max(identity.generation) + 1,
            state: state.to_owned(),
            step: u32::try_from(step).unwrap_or(u32::MAX),
            share: machine.rules.share_of(goal),
            started_at: identity.started_at,
            written_at,
            owner: identity.owner.clone(),
            lease_until: self.lease(goal).map(|lease| written_at + lease + LEASE_MARGIN),
            originals: identity.originals.clone(),
            note,
        }
    }

    /// How long this process holds the run after the write; a rollback needs no lease.
    fn lease(&self, goal: Goal) -> Option<TimeDelta> {
        let rules = &self.machine.rules;
        let lease = match goal {
            Goal::Rollback => return None,
            Goal::Finish => Duration::ZERO,
            Goal::LowerTtl => self.machine.old_ttl_remaining,
            Goal::Step(index) => rules.steps.get(index).map_or(Duration::ZERO, |step| {
                // The process that watches the last step watches the drain.
                step.bake + if step.share == Share::GREEN { rules.drain } else { Duration::ZERO }
            }),
        };
        Some(TimeDelta::from_std(lease).unwrap_or_default())
    }

    /// The command that rolls back without kongferry, from the last known records.
    fn manual_rollback(&self) -> String {
        let Some(observed) = &self.observed else { return String::new() };
        let desired = self.desired(Goal::Rollback, observed);
        match self.environment.provider.plan(&self.target, observed, &desired) {
            Ok(change) => self.environment.provider.manual_command(&change),
            Err(error) => format!("# {error}"),
        }
    }
}

/// The event for an error that may be temporary.
pub(super) fn later(error: &DnsError) -> Event {
    match error.kind {
        DnsErrorKind::Throttled { retry_after: Some(wait) } => Event::Throttled(wait, error.to_string()),
        _ => Event::RetryLater(error.to_string()),
    }
}

fn skipped_note(skipped: &[usize]) -> String {
    if skipped.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = skipped.iter().map(|index| (index + 1).to_string()).collect();
    format!("{SKIPPED}{}", numbers.join(","))
}

fn desired_share(desired: &Desired) -> Share {
    match desired.form {
        RecordForm::Split(share) => share,
        RecordForm::Plain(Side::Green) => Share::GREEN,
        RecordForm::Plain(Side::Blue) => Share::BLUE,
        RecordForm::AsFound => desired.marker.as_ref().map(|marker| marker.share).unwrap_or_default(),
    }
}

fn is_finished(observed: &Observed) -> bool {
    let is_green = |record: &ObservedRecord| record.state == RecordState::Plain(Side::Green);
    observed.marker_text.is_none() && observed.records.iter().all(is_green)
}
