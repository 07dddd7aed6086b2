//! How often and how strictly a gate is judged.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often and how strictly a gate is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatePolicy {
    /// From one check to the next.
    pub interval: Duration,
    /// How long after a change of the share nothing but a failure counts: until rates know the new share.
    pub initial_delay: Duration,
    /// How many checks must have passed in a step before it may end.
    pub count: u32,
    /// How many failures in a row are borne.
    pub failure_limit: u32,
    /// How many checks in a row may be inconclusive.
    pub inconclusive_limit: u32,
    pub on_fail: OnFail,
}

impl Default for GatePolicy {
    fn default() -> Self {
        GatePolicy {
            interval: Duration::from_secs(30),
            initial_delay: Duration::ZERO,
            count: 1,
            failure_limit: 0,
            inconclusive_limit: 2,
            on_fail: OnFail::Rollback,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// All new resolutions go back to blue.
    #[default]
    Rollback,
    /// The share stays, and an operator decides.
    Pause,
}
