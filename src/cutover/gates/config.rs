//! Gates as they are written down: what is measured, and which limits it must keep.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kong::{self, Preset};
use crate::cutover::config::from_table;
use crate::cutover::span::Span;
use crate::error::{Error, Result};

/// A health check that must hold.
#[derive(Debug, Clone)]
pub struct Gate {
    /// What people call it.
    pub name: String,
    /// How often and how strictly it is judged.
    pub policy: Policy,
    /// What is looked at.
    pub check: Check,
}

/// How often and how strictly a gate is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// From one check to the next.
    pub interval: Span,
    /// How long after a change of the share nothing but a failure counts: until rates know the new share.
    pub initial_delay: Span,
    /// How many checks must have passed in a step before it may end.
    pub count: u32,
    /// How many failures in a row are borne.
    pub failure_limit: u32,
    /// How many checks in a row may be inconclusive.
    pub inconclusive_limit: u32,
    /// What a failure does.
    pub on_fail: OnFail,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            interval: Span::seconds(30),
            initial_delay: Span::default(),
            count: 1,
            failure_limit: 0,
            inconclusive_limit: 2,
            on_fail: OnFail::Rollback,
        }
    }
}

/// What a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFail {
    /// All new resolutions go back to blue.
    #[default]
    Rollback,
    /// The share stays, and a person decides.
    Pause,
}

/// What a gate looks at.
#[derive(Debug, Clone)]
pub enum Check {
    /// Prometheus.
    Prometheus(Query),
    /// Green itself.
    Http(Probe),
    /// The user's own program.
    Command(Program),
}

/// A PromQL query and its limits.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// The query about green; it comes to one number.
    pub green: String,
    /// The same about blue, to compare with.
    pub blue: Option<String>,
    /// A query that counts the requests which the number rests on.
    pub requests: Option<String>,
    /// How many of them make the number worth a judgement.
    #[serde(default)]
    pub min_requests: f64,
    /// The largest number that passes.
    pub max: Option<f64>,
    /// The smallest number that passes.
    pub min: Option<f64>,
    /// How much larger than blue's it may be.
    pub max_increase: Option<f64>,
    /// How much smaller than blue's it may be.
    pub max_decrease: Option<f64>,
    /// How many times blue's it may be.
    pub max_ratio: Option<f64>,
    /// The number is green's share of the traffic, and may be so far from the share that was asked for.
    pub around_share: Option<f64>,
    /// How the number is shown.
    #[serde(default)]
    pub unit: Unit,
}

/// How a number is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// As it is.
    #[default]
    Number,
    /// A fraction of 1, as per cent.
    Percent,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Milliseconds,
}

impl Unit {
    /// The number with its unit.
    pub fn show(self, value: f64) -> String {
        let short = |value: f64| {
            let text = format!("{value:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        };
        match self {
            Unit::Number => short(value),
            Unit::Percent => format!("{} %", short(value * 100.0)),
            Unit::Seconds => format!("{} s", short(value)),
            Unit::Milliseconds => format!("{} ms", short(value)),
        }
    }
}

/// A request to green, and what its answer must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The address, as clients would have it.
    pub url: String,
    /// The method.
    pub method: Option<String>,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Where to connect instead of what DNS says: green's `ADDRESS:PORT`.
    pub connect_to: Option<String>,
    /// Status codes that pass; 200 to 399 where none is given.
    #[serde(default)]
    pub status: Vec<u16>,
    /// Headers of the answer: a regular expression for each.
    #[serde(default)]
    pub expect_headers: BTreeMap<String, String>,
    /// A regular expression that the body must match.
    pub body_match: Option<String>,
    /// How long it may take to the end of the body.
    pub max_latency: Option<Span>,
    /// When it is given up.
    pub timeout: Option<Span>,
}

/// The user's own program: exit code 0 passes, 1 fails, anything else is inconclusive.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The program with its arguments.
    pub run: Vec<String>,
    /// When it is killed.
    pub timeout: Option<Span>,
}

/// Prometheus, and how it names blue and green.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Its address.
    pub url: String,
    /// Variable that holds a bearer token.
    pub token_env: Option<String>,
    /// Labels of blue's series.
    #[serde(default = "blue_labels")]
    pub blue: String,
    /// Labels of green's series.
    #[serde(default = "green_labels")]
    pub green: String,
    /// Kong's version on blue.
    #[serde(default = "kong_2_8")]
    pub kong_blue: KongLine,
    /// Kong's version on green.
    #[serde(default)]
    pub kong_green: KongLine,
    /// How far back rates look.
    #[serde(default = "five_minutes")]
    pub window: Span,
    /// A query for blue's requests a second, in the place of the ready-made one.
    pub blue_requests: Option<String>,
    /// A query for green's requests a second.
    pub green_requests: Option<String>,
    /// How long a query may take.
    pub timeout: Option<Span>,
}

fn blue_labels() -> String {
    r#"job="blue""#.to_owned()
}

fn green_labels() -> String {
    r#"job="green""#.to_owned()
}

fn kong_2_8() -> KongLine {
    KongLine::Two
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

/// Versions of Kong whose metrics have the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum KongLine {
    /// 2.x.
    #[serde(rename = "2.8", alias = "2.x", alias = "2")]
    Two,
    /// 3.x.
    #[default]
    #[serde(rename = "3.x", alias = "3.0", alias = "3.1", alias = "3.2", alias = "3.3", alias = "3")]
    Three,
}

/// Keys of a gate that say how it is judged, whatever it looks at.
const POLICY_KEYS: &[&str] =
    &["interval", "initial_delay", "count", "failure_limit", "inconclusive_limit", "on_fail"];

impl Gate {
    /// Reads one `[[gate]]`, the `at`-th of the file.
    pub fn from_table(mut table: toml::Table, at: usize, metrics: Option<&Metrics>) -> Result<Gate> {
        let mut text = |key: &str| match table.remove(key) {
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::usage(format!("[[gate]] {}: {key} is a text", at + 1))),
            None => Ok(None),
        };
        let (kind, name) = (text("kind")?.unwrap_or_default(), text("name")?);
        let name =
            name.unwrap_or_else(|| if kind.is_empty() { format!("gate {}", at + 1) } else { kind.clone() });
        let place = format!("gate \"{name}\"");
        let mut policy = toml::Table::new();
        for key in POLICY_KEYS {
            if let Some(value) = table.remove(*key) {
                policy.insert((*key).to_owned(), value);
            }
        }
        let own_delay = policy.contains_key("initial_delay");
        let mut policy: Policy = from_table(policy, &place)?;
        let check = check(&kind, table, metrics, &place)?;
        if let (Check::Prometheus(_), Some(metrics), false) = (&check, metrics, own_delay) {
            policy.initial_delay = metrics.window;
        }
        if policy.interval.is_zero() {
            return Err(Error::usage(format!("{place}: interval cannot be zero")));
        }
        Ok(Gate { name, policy, check })
    }
}

fn check(kind: &str, table: toml::Table, metrics: Option<&Metrics>, place: &str) -> Result<Check> {
    match kind {
        "prometheus" => {
            let query: Query = from_table(table, place)?;
            needs_prometheus(metrics, place)?;
            query.check(place)?;
            Ok(Check::Prometheus(query))
        }
        "http" => {
            let probe: Probe = from_table(table, place)?;
            probe.check(place)?;
            Ok(Check::Http(probe))
        }
        "command" => {
            let program: Program = from_table(table, place)?;
            if program.run.is_empty() {
                return Err(Error::usage(format!("{place}: run names no program")));
            }
            Ok(Check::Command(program))
        }
        other => match Preset::named(other) {
            Some(preset) => {
                let metrics = needs_prometheus(metrics, place)?;
                let limits: kong::Limits = from_table(table, place)?;
                Ok(Check::Prometheus(preset.query(metrics, &limits, place)?))
            }
            None if other.is_empty() => Err(Error::usage(format!("{place}: kind is missing")).remedy(
                format!("kind is one of prometheus, http, command, {}.", Preset::names().join(", ")),
            )),
            None => Err(Error::usage(format!("{place}: there is no kind \"{other}\"")).remedy(format!(
                "kind is one of prometheus, http, command, {}.",
                Preset::names().join(", ")
            ))),
        },
    }
}

fn needs_prometheus<'a>(metrics: Option<&'a Metrics>, place: &str) -> Result<&'a Metrics> {
    metrics.ok_or_else(|| {
        Error::usage(format!("{place} asks Prometheus, and it is not said where that is"))
            .remedy("Add [prometheus] with url = \"http://…:9090\".")
    })
}

impl Query {
    fn check(&self, place: &str) -> Result<()> {
        let compares = self.max_increase.or(self.max_decrease).or(self.max_ratio).is_some();
        if compares && self.blue.is_none() {
            return Err(Error::usage(format!("{place} compares with blue, and has no query about blue"))
                .remedy("Add blue = \"…\"."));
        }
        let limits =
            [self.max, self.min, self.max_increase, self.max_decrease, self.max_ratio, self.around_share];
        if limits.iter().all(Option::is_none) {
            return Err(Error::usage(format!("{place} has no limit")).remedy(
                "Give one or more of max, min, max_increase, max_decrease, max_ratio and around_share.",
            ));
        }
        if limits.iter().flatten().any(|limit| !limit.is_finite()) {
            return Err(Error::usage(format!("{place}: a limit is a finite number")));
        }
        if self.min_requests > 0.0 && self.requests.is_none() {
            return Err(Error::usage(format!("{place} has min_requests, and no query that counts requests"))
                .remedy("Add requests = \"sum(increase(…))\"."));
        }
        Ok(())
    }
}

impl Probe {
    fn check(&self, place: &str) -> Result<()> {
        let address = url::Url::parse(&self.url).ok();
        if address.is_none_or(|address| !matches!(address.scheme(), "http" | "https")) {
            return Err(Error::usage(format!("{place}: url is no address of http:// or https://")));
        }
        for text in self.expect_headers.values().chain(&self.body_match) {
            regex::Regex::new(text)
                .map_err(|_| Error::usage(format!("{place}: \"{text}\" is no regular expression")))?;
        }
        if let Some(address) = &self.connect_to {
            address.parse::<std::net::SocketAddr>().map_err(|_| {
                Error::usage(format!("{place}: connect_to = \"{address}\" is not ADDRESS:PORT"))
            })?;
        }
        Ok(())
    }
}
