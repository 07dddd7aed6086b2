//! The `[prometheus]` section of `cutover.toml`, and the queries for Kong's metrics.

use std::time::Duration;

use serde::Deserialize;

use crate::duration::compact;

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrometheusConfig {
    pub url: String,
    /// The environment variable of a bearer token.
    pub token_env: Option<String>,
    /// The labels of blue's series.
    #[serde(default = "blue_labels")]
    pub blue: String,
    #[serde(default = "green_labels")]
    pub green: String,
    #[serde(default = "kong_2_8")]
    pub kong_blue: KongMajor,
    #[serde(default)]
    pub kong_green: KongMajor,
    #[serde(default = "five_minutes", with = "humantime_serde")]
    pub window: Duration,
    /// A query for blue's requests per second, instead of the default one.
    pub blue_requests: Option<String>,
    /// A query for green's requests per second, instead of the default one.
    pub green_requests: Option<String>,
    /// The limit for one query.
    #[serde(default, with = "humantime_serde")]
    pub timeout: Option<Duration>,
}

fn blue_labels() -> String {
    r#"job="blue""#.to_owned()
}

fn green_labels() -> String {
    r#"job="green""#.to_owned()
}

fn kong_2_8() -> KongMajor {
    KongMajor::Two
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}

/// Versions of Kong with the same metric names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum KongMajor {
    #[serde(rename = "2.8", alias = "2.x", alias = "2")]
    Two,
    #[default]
    #[serde(rename = "3.x", alias = "3.0", alias = "3.1", alias = "3.2", alias = "3.3", alias = "3")]
    Three,
}

/// The counter of requests by status, with the labels of one side.
fn requests(line: KongMajor, labels: &str, more: &str) -> String {
    let name = match line {
        KongMajor::Two => "kong_http_status",
        KongMajor::Three => "kong_http_requests_total",
    };
    format!("{name}{{{}}}", join_labels(labels, more))
}

fn join_labels(labels: &str, more: &str) -> String {
    match (labels.trim(), more) {
        ("", more) => more.to_owned(),
        (labels, "") => labels.to_owned(),
        (labels, more) => format!("{labels},{more}"),
    }
}

impl PrometheusConfig {
    pub fn blue_rate(&self) -> String {
        self.blue_requests.clone().unwrap_or_else(|| self.rate(self.kong_blue, &self.blue))
    }

    pub fn green_rate(&self) -> String {
        self.green_requests.clone().unwrap_or_else(|| self.rate(self.kong_green, &self.green))
    }

    fn rate(&self, line: KongMajor, labels: &str) -> String {
        format!("sum(rate({}[{}]))", requests(line, labels, ""), compact(self.window))
    }

    /// The fraction of requests with these status codes.
    pub(super) fn codes(&self, line: KongMajor, labels: &str, more: &str) -> String {
        let matching = requests(line, labels, more);
        let window = compact(self.window);
        format!("(sum(rate({matching}[{window}])) or vector(0)) / {}", self.rate(line, labels))
    }

    /// The fraction of requests within a latency bound.
    pub(super) fn within(&self, line: KongMajor, labels: &str, bound: u32) -> String {
        let (bucket, count, kind) = match line {
            KongMajor::Two => ("kong_latency_bucket", "kong_latency_count", r#"type="request""#),
            KongMajor::Three => ("kong_request_latency_ms_bucket", "kong_request_latency_ms_count", ""),
        };
        let le = format!(r#"le=~"{bound}(\\.0)?""#);
        let (within, all) = (join_labels(labels, &join_labels(kind, &le)), join_labels(labels, kind));
        let window = compact(self.window);
        format!("sum(rate({bucket}{{{within}}}[{window}])) / sum(rate({count}{{{all}}}[{window}]))")
    }

    /// Green's number of requests in the window.
    pub(super) fn green_count(&self) -> String {
        format!("sum(increase({}[{}]))", requests(self.kong_green, &self.green, ""), compact(self.window))
    }
}
