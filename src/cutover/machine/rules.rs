//! What the state machine knows of the configuration.

use std::time::Duration;

use crate::cutover::gates::policy::GatePolicy;
use crate::cutover::state::Goal;
use crate::cutover::step::Step;
use crate::dns::Share;

/// What the rules need to know of the configuration.
#[derive(Debug, Clone)]
pub struct CutoverRules {
    pub steps: Vec<Step>,
    /// Names and policies of the gates.
    pub gates: Vec<(String, GatePolicy)>,
    pub ttl: Duration,
    /// How long resolvers may go on with an answer after the last name server gave it.
    pub settle: Duration,
    /// What resolvers may add to that.
    pub resolver_floor: Duration,
    /// From one question to the next.
    pub check_every: Duration,
    /// How long a move may wait for provider and name servers.
    pub settle_limit: Duration,
    /// How long blue must be idle.
    pub drain: Duration,
    /// Requests a second up to which a side counts as idle.
    pub idle_below: f64,
    /// Whether counters are read at all.
    pub has_counters: bool,
    /// From one look for drift to the next, from the last step to `finish`.
    pub drift_every: Duration,
}

impl CutoverRules {
    /// The share that a goal asks for; none for `Finish`, which asks for one side.
    pub fn share_of(&self, goal: Goal) -> Share {
        match goal {
            Goal::Step(index) => self.steps.get(index).map(|step| step.share).unwrap_or_default(),
            Goal::LowerTtl | Goal::Rollback | Goal::Finish => Share::BLUE,
        }
    }
}
