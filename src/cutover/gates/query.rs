//! A PromQL query and its limits.

use serde::Deserialize;

use crate::error::{Error, Result};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateQuery {
    /// Must return one number.
    pub green: String,
    /// The same for blue, to compare with.
    pub blue: Option<String>,
    /// Counts green's requests.
    pub requests: Option<String>,
    /// With fewer requests the check is inconclusive.
    #[serde(default)]
    pub min_requests: f64,
    pub max: Option<f64>,
    pub min: Option<f64>,
    /// The difference by which it may exceed blue's number.
    pub max_increase: Option<f64>,
    /// The difference by which it may be below blue's number.
    pub max_decrease: Option<f64>,
    /// The multiple of blue's number that it may reach.
    pub max_ratio: Option<f64>,
    /// The number is green's share of the traffic, and may differ from the step's share by this.
    pub around_share: Option<f64>,
    #[serde(default)]
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    #[default]
    Number,
    /// A fraction of 1, as per cent.
    Percent,
    Seconds,
    Milliseconds,
}

impl Unit {
    pub fn show(self, value: f64) -> String {
        let rounded = |value: f64| {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match self {
            Unit::Number => rounded(value),
            Unit::Percent => format!("{} %", rounded(value * 100.0)),
            Unit::Seconds => format!("{} s", rounded(value)),
            Unit::Milliseconds => format!("{} ms", rounded(value)),
        }
    }
}

impl GateQuery {
    pub(super) fn check(&self, place: &str) -> Result<()> {
        let compares = self.max_increase.or(self.max_decrease).or(self.max_ratio).is_some();
        if compares && self.blue.is_none() {
            return Err(Error::usage(format!("{place} compares with blue, but has no query for blue"))
                .remedy("Add blue = \"…\"."));
        }
        let limits =
            [self.max, self.min, self.max_increase, self.max_decrease, self.max_ratio, self.around_share];
        if limits.iter().all(Option::is_none) {
            return Err(Error::usage(format!("{place} has no limit")).remedy(
                "Set one or more of max, min, max_increase, max_decrease, max_ratio and around_share.",
            ));
        }
        if limits.iter().flatten().any(|limit| !limit.is_finite()) {
            return Err(Error::usage(format!("{place}: a limit is not a finite number")));
        }
        if self.min_requests > 0.0 && self.requests.is_none() {
            return Err(Error::usage(format!("{place} has min_requests, but no query that counts requests"))
                .remedy("Add requests = \"sum(increase(…))\"."));
        }
        Ok(())
    }
}
