//! The engine's state for the view, the control socket and hooks.

use serde_json::json;

use super::Engine;
use crate::cutover::clock::Time;
use crate::cutover::state::Goal;
use crate::cutover::status::{GateStatus, Shares, StatusSnapshot, seconds};

impl Engine {
    pub(super) fn publish(&self) {
        self.status.send_replace(Some(self.snapshot(self.now())));
    }

    fn snapshot(&self, now: Time) -> StatusSnapshot {
        let machine = &self.machine;
        let traffic = machine.traffic.map(|(traffic, _)| traffic);
        let paused = machine.paused.as_ref().map(|(pause, _)| pause.clone());
        let ends_at = machine.ends_at().filter(|_| paused.is_none());
        StatusSnapshot {
            format: 1,
            run: self.identity.run,
            records: self.record_keys(),
            state: if paused.is_some() { "paused" } else { machine.phase.as_str() }.to_owned(),
            phase: machine.phase,
            sentence: machine.phase.sentence(&machine.rules.steps),
            paused,
            rollback_reason: machine.rollback_reason.clone(),
            steps: machine.rules.steps.clone(),
            step: machine.phase.step(),
            skipped: machine.skipped.clone(),
            share: Shares {
                weight: machine.share,
                by_queries: self.by_queries,
                by_counters: traffic.and_then(|traffic| traffic.share()).map(|share| share * 100.0),
            },
            seconds_left: ends_at.map(|end| seconds(end.saturating_sub(now))),
            seconds_in_stage: seconds(now.saturating_sub(machine.since)),
            gates: self.gates(now),
            traffic,
            events: self.events.iter().cloned().collect(),
            owner: self.identity.owner.clone(),
            at: self.environment.clock.wall(),
            watched: true,
            rollback_command: self.identity.rollback_command.clone(),
            // Shown once the provider has refused the rollback twice.
            manual_command: self
                .manual_command
                .clone()
                .filter(|_| machine.phase.is_going_back() && machine.attempts > 1),
        }
    }

    fn record_keys(&self) -> Vec<String> {
        self.target.records().iter().map(|record| record.key.to_string()).collect()
    }

    fn gates(&self, now: Time) -> Vec<GateStatus> {
        let gates = self.machine.rules.gates.iter().zip(&self.machine.tallies).zip(&self.gate_due);
        gates
            .map(|(((name, _), tally), due)| GateStatus {
                name: name.clone(),
                last: tally.last.clone(),
                passes: tally.passes,
                seconds_to_next: due.map(|due| seconds(due.saturating_sub(now))),
            })
            .collect()
    }

    /// The body of hooks and notifications.
    pub(super) fn hook_body(&self, code: &str) -> serde_json::Value {
        let machine = &self.machine;
        let step = machine.phase.step();
        json!({
            "event": code,
            "run": self.identity.run,
            "records": self.record_keys(),
            "state": machine.phase.as_str(),
            "paused": machine.paused.as_ref().map(|(pause, _)| &pause.reason),
            "step": step.map(|step| step + 1),
            "share": machine.share,
            "next_share": step.map(|step| machine.rules.share_of(Goal::Step(step))),
            "owner": self.identity.owner,
            "rollback_command": self.identity.rollback_command,
        })
    }
}
