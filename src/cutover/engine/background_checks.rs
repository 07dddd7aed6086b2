//! Checks while nothing is written: gates, counters, the provider's records and the name servers' answers.

use super::{Engine, PASSING_QUERIES};
use crate::cutover::clock::Time;
use crate::cutover::environment::{DriftStatus, NameServerReport, NameServerState};
use crate::cutover::machine::Event;
use crate::cutover::state::{Activity, CutoverPhase};
use crate::dns::{DnsResult, Observed, Share};

impl Engine {
    pub(super) fn start_gate_checks(&mut self, now: Time) {
        for gate in 0..self.gate_due.len() {
            if self.gate_due.get(gate).copied().flatten().is_some_and(|due| due <= now) {
                let baseline = self.machine.tallies.get(gate).and_then(|tally| tally.baseline);
                let check = self.environment.health.check_gate(gate, self.machine.share, baseline);
                self.checks.push(Box::pin(async move { (gate, check.await) }));
                if let Some(due) = self.gate_due.get_mut(gate) {
                    // Set again when it has answered.
                    *due = None;
                }
            }
        }
    }

    pub(super) fn start_background_checks(&mut self) {
        if self.traffic_check.is_none() {
            self.traffic_check = self.environment.health.read_traffic();
        }
        // During a write the task itself reads the records.
        if !self.is_quiet() {
            return;
        }
        if self.provider_check.is_none() {
            let (provider, target) = (self.environment.provider.clone(), self.target.clone());
            self.provider_check = Some(Box::pin(async move { provider.read(&target).await }));
        }
        if self.background_query.is_none() && self.machine.verified_at.is_some() {
            self.background_query =
                Some(self.environment.name_servers.query(self.machine.share, PASSING_QUERIES));
        }
    }

    /// Before each step drift is checked at once; from the last step to `finish` it is checked at intervals.
    pub(super) fn start_drift(&mut self, now: Time) {
        let paused = self.machine.paused.is_some();
        if paused || !matches!(self.machine.phase, CutoverPhase::Draining | CutoverPhase::Drained) {
            // After a resume drift is checked at once.
            (self.drift_check, self.drift_due) = (None, paused.then_some(now));
            return;
        }
        // Drift was checked before the step began.
        let due = *self.drift_due.get_or_insert(now + self.machine.rules.drift_every);
        if due <= now {
            self.drift_due = Some(now + self.machine.rules.drift_every);
            self.drift_check = Some(self.environment.integrations.drift());
        }
    }

    pub(super) fn on_drift(&mut self, drift: DriftStatus) {
        let now = self.environment.clock.now();
        self.drift_due = Some(now + self.machine.rules.drift_every);
        match drift {
            DriftStatus::None | DriftStatus::NotChecked => {}
            DriftStatus::Changed(text) => self.handle_event(Event::Blocked("drift", text), now),
            // Nothing waits for it now; before the end it must be seen.
            DriftStatus::Unknown(text) => self.handle_event(Event::CheckUnavailable(text), now),
        }
    }

    /// Whether the provider should hold what we know of.
    fn is_quiet(&self) -> bool {
        let writing = matches!(self.machine.phase.activity(), Some(Activity::Applying));
        !writing
            && self.pending.is_none()
            && self.overtaken.is_empty()
            && self.running.as_ref().is_none_or(|d| !d.sent)
            && self.identity.generation > 0
    }

    /// Judges what the provider holds when nothing is being written.
    pub(super) fn on_provider_read(&mut self, observed: DnsResult<Observed>) {
        let Ok(observed) = observed else { return };
        if !self.is_quiet() {
            return;
        }
        let now = self.environment.clock.now();
        let going_back = self.machine.phase.is_going_back();
        let unexpected = self.unexpected(&observed);
        match unexpected {
            None => {}
            Some(Unexpected::RolledBack(by)) if !going_back => self.rolled_back_by(&observed, by, now),
            Some(Unexpected::RolledBack(_)) => {}
            Some(Unexpected::TakenOver(by)) => self.taken_over = Some(by),
            Some(Unexpected::Changed(_)) if going_back && observed.share() == Some(Share::BLUE) => {}
            Some(Unexpected::Changed(text)) if going_back => {
                self.handle_event(Event::RollbackUndone(text), now);
            }
            Some(Unexpected::Changed(text)) => self.handle_event(Event::RecordsChanged(text), now),
        }
        self.last = Some(observed);
    }

    /// Another process rolled back; this one follows its rollback to the end.
    pub(super) fn rolled_back_by(&mut self, observed: &Observed, by: String, now: Time) {
        self.identity.generation = observed.generation();
        self.ticket = None;
        self.by_queries = None;
        self.handle_event(Event::RolledBackElsewhere(by), now);
    }

    pub(super) fn on_background_answers(&mut self, survey: NameServerReport) {
        if let NameServerState::Wrong(text) = survey.answers
            && self.machine.verified_at.is_some()
            && !self.machine.phase.is_going_back()
        {
            let now = self.environment.clock.now();
            self.handle_event(Event::WrongAnswer(text), now);
        }
    }
}

/// What is not as we left it.
pub(super) enum Unexpected {
    RolledBack(String),
    /// Another process continues this run, or another run began.
    TakenOver(String),
    /// The records are not what they should be.
    Changed(String),
}
