//! How often and how strictly a gate is judged.

use std::time::Duration;

use serde::Deserialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatePolicy {
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// For this time after a change of the share only failures count: rates include the former share.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// The passes that a step needs.
    pub count: u32,
    /// Consecutive failures that are tolerated.
    pub failure_limit: u32,
    /// Consecutive inconclusive checks that are tolerated.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    #[default]
    Rollback,
    /// The share stays, and an operator decides.
    Pause,
}
