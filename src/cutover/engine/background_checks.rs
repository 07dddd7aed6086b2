//! Looks in passing: gates, counters, what the provider holds and what name servers answer while nothing is written.

use super::{Engine, PASSING_QUERIES};
use crate::cutover::clock::Time;
use crate::cutover::environment::{Answers, Drift, Survey};
use crate::cutover::machine::Event;
use crate::cutover::state::{Phase, Stage};
use crate::dns::{DnsResult, Observed, Share};

impl Engine {
    pub(super) fn start_checks(&mut self, now: Time) {
        for gate in 0..self.check_due.len() {
            if self.check_due.get(gate).copied().flatten().is_some_and(|due| due <= now) {
                let baseline = self.machine.tallies.get(gate).and_then(|tally| tally.baseline);
                let check = self.ports.meters.gate(gate, self.machine.share, baseline);
                self.checks.push(Box::pin(async move { (gate, check.await) }));
                if let Some(due) = self.check_due.get_mut(gate) {
                    // Set again when it has answered.
                    *due = None;
                }
            }
        }
    }

    pub(super) fn start_looks(&mut self) {
        if self.counting.is_none() {
            self.counting = self.ports.meters.traffic();
        }
        // While something is written or awaited, the task itself looks.
        if !self.is_quiet() {
            return;
        }
        if self.look.is_none() {
            let (provider, target) = (self.ports.provider.clone(), self.target.clone());
            self.look = Some(Box::pin(async move { provider.read(&target).await }));
        }
        if self.passing.is_none() && self.machine.verified.is_some() {
            self.passing = Some(self.ports.servers.survey(self.machine.share, PASSING_QUERIES));
        }
    }

    /// Before each step drift is looked for at once; from the last one to `finish` it is looked for again and again.
    pub(super) fn start_drift(&mut self, now: Time) {
        let paused = self.machine.paused.is_some();
        if paused || !matches!(self.machine.phase, Phase::Draining | Phase::Drained) {
            // Whoever says "resume" may have mended it, or not: that is looked at then.
            (self.drifting, self.drift_due) = (None, paused.then_some(now));
            return;
        }
        // The step itself was looked at before it began.
        let due = *self.drift_due.get_or_insert(now + self.machine.rules.drift_every);
        if due <= now {
            self.drift_due = Some(now + self.machine.rules.drift_every);
            self.drifting = Some(self.ports.outside.drift());
        }
    }

    pub(super) fn drifted(&mut self, drift: Drift) {
        let now = self.ports.clock.now();
        self.drift_due = Some(now + self.machine.rules.drift_every);
        match drift {
            Drift::None | Drift::Unwatched => {}
            Drift::Changed(text) => self.feed(Event::Stop("drift", text), now),
            // Nothing waits for it now; before the end it must be seen.
            Drift::Unknown(text) => self.feed(Event::Unseen(text), now),
        }
    }

    /// Whether the provider should hold what we know of.
    fn is_quiet(&self) -> bool {
        let writing = matches!(self.machine.phase.stage(), Some(Stage::Applying));
        !writing
            && self.pending.is_none()
            && self.overtaken.is_empty()
            && self.doing.as_ref().is_none_or(|d| !d.sent)
            && self.identity.generation > 0
    }

    /// Judges what the provider holds when nothing is being written.
    pub(super) fn looked(&mut self, seen: DnsResult<Observed>) {
        let Ok(seen) = seen else { return };
        if !self.is_quiet() {
            return;
        }
        let now = self.ports.clock.now();
        let going_back = self.machine.phase.is_going_back();
        let strange = self.strange(&seen);
        match strange {
            None => {}
            Some(Unexpected::RolledBack(by)) if !going_back => self.rolled_back_by(&seen, by, now),
            Some(Unexpected::RolledBack(_)) => {}
            Some(Unexpected::TakenOver(by)) => self.taken_over = Some(by),
            Some(Unexpected::Changed(_)) if going_back && seen.share() == Some(Share::BLUE) => {}
            Some(Unexpected::Changed(text)) if going_back => self.feed(Event::NotBack(text), now),
            Some(Unexpected::Changed(text)) => self.feed(Event::Changed(text), now),
        }
        self.last = Some(seen);
    }

    /// Somebody else was faster; what he wrote is followed to its end.
    pub(super) fn rolled_back_by(&mut self, seen: &Observed, by: String, now: Time) {
        self.identity.generation = seen.generation();
        self.ticket = None;
        self.by_queries = None;
        self.feed(Event::RolledBackBy(by), now);
    }

    pub(super) fn passed_by(&mut self, survey: Survey) {
        if let Answers::Wrong(text) = survey.answers
            && self.machine.verified.is_some()
            && !self.machine.phase.is_going_back()
        {
            let now = self.ports.clock.now();
            self.feed(Event::Wrong(text), now);
        }
    }
}

/// What is not as we left it.
pub(super) enum Unexpected {
    /// Somebody else has rolled back.
    RolledBack(String),
    /// Somebody else goes on with our run, or another run began.
    TakenOver(String),
    /// The records are not what they should be.
    Changed(String),
}
