//! The consecutive measurements of one gate: what breaches it, and what lets a step end.

use super::measurement::{GateVerdict, Measurement};
use super::policy::{GatePolicy, OnFail};
use crate::cutover::clock::Time;

/// The checks of one gate since the share was last changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GateTally {
    pub passes: u32,
    /// Consecutive failures.
    pub failures: u32,
    /// Consecutive inconclusive checks.
    pub inconclusive: u32,
    pub last: Option<Measurement>,
    /// Blue's last good number in this run.
    pub baseline: Option<f64>,
}

/// More failures or inconclusive checks than the policy tolerates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breach {
    Failed(OnFail),
    Inconclusive,
}

impl GateTally {
    /// Adds a check made `after` the share was changed.
    pub fn add(&mut self, policy: &GatePolicy, measured: Measurement, after: Time) -> Option<Breach> {
        let warming_up = after < policy.initial_delay;
        self.baseline = measured.baseline.or(self.baseline);
        let verdict = measured.verdict;
        self.last = Some(measured);
        match verdict {
            GateVerdict::Pass => {
                (self.failures, self.inconclusive) = (0, 0);
                // A pass does not count while rates include another share.
                self.passes += u32::from(!warming_up);
                None
            }
            GateVerdict::Fail => {
                self.inconclusive = 0;
                self.failures += 1;
                (self.failures > policy.failure_limit).then_some(Breach::Failed(policy.on_fail))
            }
            GateVerdict::Inconclusive => {
                self.inconclusive += u32::from(!warming_up);
                (self.inconclusive > policy.inconclusive_limit).then_some(Breach::Inconclusive)
            }
        }
    }

    /// The verdict of the last check.
    pub fn verdict(&self) -> Option<GateVerdict> {
        self.last.as_ref().map(|last| last.verdict)
    }

    /// Whether a step may end: the last check passed, and enough have.
    pub fn allows_progress(&self, policy: &GatePolicy) -> bool {
        self.verdict() == Some(GateVerdict::Pass) && self.passes >= policy.count.max(1)
    }

    /// Resets the counts: the share has changed, or an operator resumed.
    pub fn restart(&mut self) {
        (self.passes, self.failures, self.inconclusive) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn measured(verdict: GateVerdict) -> Measurement {
        Measurement { verdict, ..Measurement::inconclusive("") }
    }

    /// Adds measurements; returns the first breach.
    fn tally_of(policy: &GatePolicy, verdicts: &[GateVerdict], after: u64) -> (GateTally, Option<Breach>) {
        let mut tally = GateTally::default();
        let breaches: Vec<Option<Breach>> = verdicts
            .iter()
            .map(|verdict| tally.add(policy, measured(*verdict), Duration::from_secs(after)))
            .collect();
        (tally, breaches.into_iter().flatten().next())
    }

    #[test]
    fn the_first_failure_breaches_unless_some_are_tolerated() {
        use GateVerdict::{Fail, Pass};
        let policy = GatePolicy::default();
        assert_eq!(tally_of(&policy, &[Pass, Fail], 0).1, Some(Breach::Failed(OnFail::Rollback)));
        let patient = GatePolicy { failure_limit: 1, on_fail: OnFail::Pause, ..policy };
        assert_eq!(tally_of(&patient, &[Fail, Pass, Fail], 0).1, None);
        assert_eq!(tally_of(&patient, &[Fail, Fail], 0).1, Some(Breach::Failed(OnFail::Pause)));
    }

    #[test]
    fn inconclusive_is_never_a_pass() {
        use GateVerdict::{Inconclusive, Pass};
        let policy = GatePolicy { inconclusive_limit: 1, ..GatePolicy::default() };
        let (tally, breach) = tally_of(&policy, &[Pass, Inconclusive], 0);
        assert_eq!(breach, None);
        assert!(!tally.allows_progress(&policy), "the last check must have passed");
        assert_eq!(tally_of(&policy, &[Inconclusive, Inconclusive], 0).1, Some(Breach::Inconclusive));
        assert!(
            !GateTally::default().allows_progress(&GatePolicy { count: 0, ..policy }),
            "no check is no pass"
        );
    }

    #[test]
    fn after_a_change_of_the_share_only_failures_count() {
        use GateVerdict::{Fail, Inconclusive, Pass};
        let policy = GatePolicy {
            initial_delay: Duration::from_secs(60),
            inconclusive_limit: 0,
            ..GatePolicy::default()
        };
        assert_eq!(tally_of(&policy, &[Inconclusive, Inconclusive], 59).1, None);
        assert_eq!(tally_of(&policy, &[Inconclusive], 60).1, Some(Breach::Inconclusive));
        assert_eq!(tally_of(&policy, &[Fail], 0).1, Some(Breach::Failed(OnFail::Rollback)));
        assert!(!tally_of(&policy, &[Pass], 59).0.allows_progress(&policy));
    }
}
