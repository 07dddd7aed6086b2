//! What the state machine knows of the configuration.

use std::time::Duration;

use crate::cutover::gates::policy::GatePolicy;
use crate::cutover::state::Goal;
use crate::cutover::step::CutoverStep;
use crate::dns::Share;

#[derive(Debug, Clone, Default)]
pub struct CutoverRules {
    pub steps: Vec<CutoverStep>,
    /// Names and policies of the gates.
    pub gates: Vec<(String, GatePolicy)>,
    pub ttl: Duration,
    /// How long resolvers may use an answer after the last name server gave it.
    pub settle: Duration,
    /// How long resolvers may cache beyond the TTL.
    pub resolver_floor: Duration,
    pub check_every: Duration,
    /// How long a move may wait for provider and name servers.
    pub settle_limit: Duration,
    /// How long blue must be idle.
    pub drain: Duration,
    /// Requests per second up to which a side counts as idle.
    pub idle_below: f64,
    pub has_counters: bool,
    /// The interval between checks for drift, from the last step to `finish`.
    pub drift_every: Duration,
}

impl CutoverRules {
    pub fn share_of(&self, goal: Goal) -> Share {
        match goal {
            Goal::Step(index) => self.steps.get(index).map(|step| step.share).unwrap_or_default(),
            Goal::LowerTtl | Goal::Rollback | Goal::Finish => Share::BLUE,
        }
    }
}
