//! Preset gates for Kong: metrics of its prometheus plugin, in the names of 2.8 and 3.x.
//!
//! Kong 3.x renamed everything and exports status codes and latencies only where the plugin is configured to. A series
//! exists from its first request on, so a query about errors counts a missing series as zero, while the sum of all
//! requests in the denominator keeps "no data" what it is.

use serde::Deserialize;

use super::metrics::PrometheusConfig;
use super::query::{GateQuery, Unit};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Share of requests answered with 5xx.
    Errors,
    /// Share of requests answered with 401, 403, 404 or 429; missing credentials or routes.
    Auth,
    /// Share of requests that were answered within a bucket bound of both lines.
    Latency,
    Share,
    Database,
}

const PRESETS: &[(&str, Preset)] = &[
    ("kong-errors", Preset::Errors),
    ("kong-auth", Preset::Auth),
    ("kong-latency", Preset::Latency),
    ("kong-share", Preset::Share),
    ("kong-database", Preset::Database),
];

/// Bounds of the latency buckets of both Kong 2.8 and 3.x, in milliseconds.
const COMMON_BOUNDS: &[u32] = &[25, 50, 80, 100, 400, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];

/// The limits that `[[gate]]` may set for a preset.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PresetLimits {
    max: Option<f64>,
    min: Option<f64>,
    max_increase: Option<f64>,
    max_decrease: Option<f64>,
    max_ratio: Option<f64>,
    around_share: Option<f64>,
    min_requests: Option<f64>,
    bound_ms: Option<u32>,
}

impl Preset {
    pub fn named(name: &str) -> Option<Preset> {
        PRESETS.iter().find(|(known, _)| *known == name).map(|(_, preset)| *preset)
    }

    pub fn names() -> Vec<&'static str> {
        PRESETS.iter().map(|(name, _)| *name).collect()
    }

    /// The query; the user's limits replace the defaults.
    pub fn query(self, metrics: &PrometheusConfig, limits: &PresetLimits, place: &str) -> Result<GateQuery> {
        let (blue, green) = (metrics.blue.as_str(), metrics.green.as_str());
        let counted = GateQuery {
            requests: Some(metrics.green_count()),
            min_requests: 100.0,
            unit: Unit::Percent,
            ..GateQuery::default()
        };
        let query = match self {
            Preset::Errors => GateQuery {
                green: metrics.codes(metrics.kong_green, green, r#"code=~"5[0-9]{2}""#),
                blue: Some(metrics.codes(metrics.kong_blue, blue, r#"code=~"5[0-9]{2}""#)),
                max_increase: Some(0.01),
                ..counted
            },
            Preset::Auth => GateQuery {
                green: metrics.codes(metrics.kong_green, green, r#"code=~"401|403|404|429""#),
                blue: Some(metrics.codes(metrics.kong_blue, blue, r#"code=~"401|403|404|429""#)),
                max_increase: Some(0.02),
                ..counted
            },
            Preset::Latency => {
                let bound = limits.bound_ms.unwrap_or(400);
                if !COMMON_BOUNDS.contains(&bound) {
                    return Err(Error::usage(format!("{place}: Kong has no latency bucket of {bound} ms"))
                        .remedy(format!("Set bound_ms to one of {COMMON_BOUNDS:?}.")));
                }
                GateQuery {
                    green: metrics.within(metrics.kong_green, green, bound),
                    blue: Some(metrics.within(metrics.kong_blue, blue, bound)),
                    max_decrease: Some(0.05),
                    ..counted
                }
            }
            Preset::Share => GateQuery {
                // Without traffic blue keeps its series, with a rate of 0; a missing series is no data.
                green: format!(
                    "{green} / ({green} + {blue})",
                    green = metrics.green_rate(),
                    blue = metrics.blue_rate()
                ),
                around_share: Some(0.1),
                ..counted
            },
            Preset::Database => GateQuery {
                green: format!("min(kong_datastore_reachable{{{green}}})"),
                min: Some(1.0),
                ..GateQuery::default()
            },
        };
        Ok(query.with(limits))
    }
}

impl GateQuery {
    /// Any comparison of the user replaces all default comparisons.
    fn with(mut self, limits: &PresetLimits) -> GateQuery {
        let compared =
            limits.max_increase.or(limits.max_decrease).or(limits.max_ratio).or(limits.max).or(limits.min);
        if compared.is_some() {
            (self.max_increase, self.max_decrease, self.max_ratio) =
                (limits.max_increase, limits.max_decrease, limits.max_ratio);
            (self.max, self.min) = (limits.max, limits.min);
        }
        self.around_share = limits.around_share.or(self.around_share);
        self.min_requests = limits.min_requests.unwrap_or(self.min_requests);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(more: &str) -> PrometheusConfig {
        toml::from_str(&format!("url = \"http://127.0.0.1:9090\"\n{more}")).unwrap()
    }

    #[test]
    fn each_line_of_kong_has_its_own_metric_names() {
        let query = Preset::Errors.query(&metrics(""), &PresetLimits::default(), "").unwrap();
        assert_eq!(
            query.green,
            r#"(sum(rate(kong_http_requests_total{job="green",code=~"5[0-9]{2}"}[5m])) or vector(0)) / sum(rate(kong_http_requests_total{job="green"}[5m]))"#
        );
        assert!(
            query.blue.is_some_and(|blue| blue.contains(r#"kong_http_status{job="blue",code=~"5[0-9]{2}"}"#))
        );
        let same = metrics("kong_blue = \"3.3\"\nblue = ''\n");
        let latency = Preset::Latency.query(&same, &PresetLimits::default(), "").unwrap();
        assert_eq!(
            latency.blue.as_deref(),
            Some(
                r#"sum(rate(kong_request_latency_ms_bucket{le=~"400(\\.0)?"}[5m])) / sum(rate(kong_request_latency_ms_count{}[5m]))"#
            )
        );
    }

    #[test]
    fn a_users_limit_replaces_the_default() {
        let limits = PresetLimits { max: Some(0.02), ..PresetLimits::default() };
        let query = Preset::Errors.query(&metrics(""), &limits, "").unwrap();
        assert_eq!((query.max, query.max_increase), (Some(0.02), None));
        let bound = PresetLimits { bound_ms: Some(250), ..PresetLimits::default() };
        assert!(Preset::Latency.query(&metrics(""), &bound, "").is_err());
    }
}
