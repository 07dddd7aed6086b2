//! The steps of a cutover.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::dns::Share;
use crate::duration;

/// A share of new resolutions for green, and how long it is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutoverStep {
    pub share: Share,
    /// How long the gates must hold before the next step.
    #[serde(serialize_with = "duration::serialize", deserialize_with = "humantime_serde::deserialize")]
    pub bake: Duration,
    /// Whether an operator decides when the next step begins.
    #[serde(default)]
    pub approval: bool,
}

/// The steps of Kong's migration guide.
pub fn guide_steps() -> Vec<CutoverStep> {
    [(1, 3_600), (5, 3_600), (10, 7_200), (50, 14_400), (100, 14_400)]
        .into_iter()
        .filter_map(|(percent, bake)| {
            let share = Share::percent(percent)?;
            Some(CutoverStep { share, bake: Duration::from_secs(bake), approval: false })
        })
        .collect()
}
