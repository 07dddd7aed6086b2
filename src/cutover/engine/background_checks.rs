//! Checks while nothing is written: gates, counters, the provider's records and the name servers' answers.

use super::{BACKGROUND_QUERIES, Engine};
use crate::cutover::clock::Time;
use crate::cutover::environment::{DriftStatus, NameServerReport, NameServerState};
use crate::cutover::machine::Event;
use crate::cutover::state::{Activity, CutoverPhase};
use crate::dns::{DnsResult, Observed, Share};

impl Engine {
    pub(super) fn start_gate_checks(&mut self, now: Time) {
        for (gate, due) in self.gate_due.iter_mut().enumerate() {
            // The next check is due an interval after this one ends.
            if due.take_if(|due| *due <= now).is_some() {
                let baseline = self.machine.tallies.get(gate).and_then(|tally| tally.baseline);
                let health = self.environment.health.clone();
                let check = health.check_gate(gate, self.machine.share, baseline);
                self.checks.push(Box::pin(async move { (gate, check.await) }));
            }
        }
    }

    pub(super) fn start_background_checks(&mut self) {
        let environment = &self.environment;
        if self.traffic_check.is_none() {
            self.traffic_check = environment.health.clone().read_traffic();
        }
        // During a write the task itself reads the records.
        if !self.is_quiet() {
            return;
        }
        if self.provider_check.is_none() {
            let (provider, target) = (environment.provider.clone(), self.target.clone());
            self.provider_check = Some(Box::pin(async move { provider.read(&target).await }));
        }
        if self.background_query.is_none() && self.machine.verified_at.is_some() {
            let name_servers = environment.name_servers.clone();
            self.background_query = Some(name_servers.query(self.machine.share, BACKGROUND_QUERIES));
        }
    }

    /// Before each step the task checks drift; from the last step to `finish` it is checked at intervals.
    pub(super) fn start_drift(&mut self, now: Time) {
        let paused = self.machine.paused.is_some();
        if paused || !matches!(self.machine.phase, CutoverPhase::Draining | CutoverPhase::Drained) {
            // After a resume drift is checked at once.
            (self.drift_check, self.drift_due) = (None, paused.then_some(now));
            return;
        }
        let next = now + self.machine.rules.drift_every;
        if *self.drift_due.get_or_insert(next) <= now {
            self.drift_due = Some(next);
            self.drift_check = Some(self.environment.integrations.clone().drift());
        }
    }

    pub(super) fn on_drift(&mut self, drift: DriftStatus) {
        self.drift_due = Some(self.now() + self.machine.rules.drift_every);
        match drift {
            DriftStatus::None | DriftStatus::NotChecked => {}
            DriftStatus::Changed(text) => self.handle_event(Event::Blocked("drift", text)),
            // Nothing depends on it before `finish`, which checks again.
            DriftStatus::Unknown(text) => self.handle_event(Event::CheckUnavailable(text)),
        }
    }

    /// Whether the provider should hold what this run wrote.
    fn is_quiet(&self) -> bool {
        self.machine.phase.activity() != Some(Activity::Applying)
            && self.pending.is_none()
            && self.overtaken.is_empty()
            && self.running.as_ref().is_none_or(|running| !running.sent)
            && self.identity.generation > 0
    }

    pub(super) fn on_provider_read(&mut self, observed: DnsResult<Observed>) {
        let Ok(observed) = observed else { return };
        if !self.is_quiet() {
            return;
        }
        let is_going_back = self.machine.phase.is_going_back();
        match self.unexpected(&observed) {
            None => {}
            Some(Unexpected::RolledBack(_)) if is_going_back => {}
            Some(Unexpected::RolledBack(by)) => self.rolled_back_by(&observed, by),
            Some(Unexpected::TakenOver(by)) => self.taken_over = Some(by),
            Some(Unexpected::Changed(_)) if is_going_back && observed.share() == Some(Share::BLUE) => {}
            Some(Unexpected::Changed(text)) if is_going_back => {
                self.handle_event(Event::RollbackUndone(text));
            }
            Some(Unexpected::Changed(text)) => self.handle_event(Event::RecordsChanged(text)),
        }
        self.observed = Some(observed);
    }

    /// Another process rolled back; this one follows its rollback to the end.
    pub(super) fn rolled_back_by(&mut self, observed: &Observed, by: String) {
        self.identity.generation = observed.generation();
        self.ticket = None;
        self.by_queries = None;
        self.handle_event(Event::RolledBackElsewhere(by));
    }

    pub(super) fn on_background_answers(&mut self, report: NameServerReport) {
        if let NameServerState::Wrong(text) = report.answers
            && self.machine.verified_at.is_some()
            && !self.machine.phase.is_going_back()
        {
            self.handle_event(Event::WrongAnswer(text));
        }
    }
}

/// What is not as this run left it.
pub(super) enum Unexpected {
    RolledBack(String),
    /// Another process continues this run, or another run began.
    TakenOver(String),
    /// The records are not what they should be.
    Changed(String),
}
