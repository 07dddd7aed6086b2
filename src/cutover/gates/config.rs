//! Gates as they are written down: what is measured, and which limits it must keep.

use std::time::Duration;

use serde::Deserialize;

use super::command::GateProgram;
use super::kong::{self, Preset};
use super::metrics::PrometheusConfig;
use super::policy::{GatePolicy, OnFail};
use super::probe::HttpProbe;
use super::query::GateQuery;
use crate::cutover::located_toml::from_table;
use crate::error::{Error, Result};

/// A health check that must hold.
#[derive(Debug, Clone)]
pub struct Gate {
    pub name: String,
    /// How often and how strictly it is judged.
    pub policy: GatePolicy,
    pub check: GateCheck,
}

#[derive(Debug, Clone)]
pub enum GateCheck {
    Prometheus(GateQuery),
    Http(HttpProbe),
    Command(GateProgram),
}

/// The policy as `[[gate]]` has it; what is missing has the default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyTable {
    #[serde(default, with = "humantime_serde")]
    interval: Option<Duration>,
    #[serde(default, with = "humantime_serde")]
    initial_delay: Option<Duration>,
    count: Option<u32>,
    failure_limit: Option<u32>,
    inconclusive_limit: Option<u32>,
    on_fail: Option<OnFail>,
}

impl PolicyTable {
    fn policy(self, initial_delay: Duration) -> GatePolicy {
        let default = GatePolicy::default();
        GatePolicy {
            interval: self.interval.unwrap_or(default.interval),
            initial_delay: self.initial_delay.unwrap_or(initial_delay),
            count: self.count.unwrap_or(default.count),
            failure_limit: self.failure_limit.unwrap_or(default.failure_limit),
            inconclusive_limit: self.inconclusive_limit.unwrap_or(default.inconclusive_limit),
            on_fail: self.on_fail.unwrap_or(default.on_fail),
        }
    }
}

const POLICY_KEYS: &[&str] =
    &["interval", "initial_delay", "count", "failure_limit", "inconclusive_limit", "on_fail"];

impl Gate {
    /// Reads one `[[gate]]`, the `at`-th of the file.
    pub fn from_table(mut table: toml::Table, at: usize, metrics: Option<&PrometheusConfig>) -> Result<Gate> {
        let mut text = |key: &str| match table.remove(key) {
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Error::usage(format!("[[gate]] {}: {key} must be a string", at + 1))),
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
        let policy: PolicyTable = from_table(policy, &place)?;
        let check = check(&kind, table, metrics, &place)?;
        // Rates that look back over a window know a new share only after it.
        let initial_delay = match (&check, metrics) {
            (GateCheck::Prometheus(_), Some(metrics)) => metrics.window,
            _ => Duration::ZERO,
        };
        let policy = policy.policy(initial_delay);
        if policy.interval.is_zero() {
            return Err(Error::usage(format!("{place}: interval cannot be zero")));
        }
        Ok(Gate { name, policy, check })
    }
}

fn check(
    kind: &str,
    table: toml::Table,
    metrics: Option<&PrometheusConfig>,
    place: &str,
) -> Result<GateCheck> {
    match kind {
        "prometheus" => {
            let query: GateQuery = from_table(table, place)?;
            needs_prometheus(metrics, place)?;
            query.check(place)?;
            Ok(GateCheck::Prometheus(query))
        }
        "http" => {
            let probe: HttpProbe = from_table(table, place)?;
            probe.check(place)?;
            Ok(GateCheck::Http(probe))
        }
        "command" => {
            let program: GateProgram = from_table(table, place)?;
            if program.run.is_empty() {
                return Err(Error::usage(format!("{place}: run names no program")));
            }
            Ok(GateCheck::Command(program))
        }
        other => match Preset::named(other) {
            Some(preset) => {
                let metrics = needs_prometheus(metrics, place)?;
                let limits: kong::PresetLimits = from_table(table, place)?;
                Ok(GateCheck::Prometheus(preset.query(metrics, &limits, place)?))
            }
            None if other.is_empty() => Err(Error::usage(format!("{place}: kind is missing")).remedy(
                format!("kind is one of prometheus, http, command, {}.", Preset::names().join(", ")),
            )),
            None => Err(Error::usage(format!("{place}: unknown kind \"{other}\"")).remedy(format!(
                "kind is one of prometheus, http, command, {}.",
                Preset::names().join(", ")
            ))),
        },
    }
}

fn needs_prometheus<'a>(metrics: Option<&'a PrometheusConfig>, place: &str) -> Result<&'a PrometheusConfig> {
    metrics.ok_or_else(|| {
        Error::usage(format!("{place} queries Prometheus, which is not configured"))
            .remedy("Add [prometheus] with url = \"http://…:9090\".")
    })
}
