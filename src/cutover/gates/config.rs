//! The `[[gate]]` tables of `cutover.toml`.

use super::command::GateProgram;
use super::kong::{Preset, PresetLimits};
use super::metrics::PrometheusConfig;
use super::policy::GatePolicy;
use super::probe::HttpProbe;
use super::query::GateQuery;
use crate::cutover::located_toml::from_table;
use crate::duration::compact;
use crate::error::{Error, Result};

#[derive(Debug, Clone)]
pub struct Gate {
    pub name: String,
    pub policy: GatePolicy,
    pub check: GateCheck,
}

#[derive(Debug, Clone)]
pub enum GateCheck {
    Prometheus(GateQuery),
    Http(HttpProbe),
    Command(GateProgram),
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
            policy.extend(table.remove_entry(*key));
        }
        let check = check(&kind, table, metrics, &place)?;
        // A rate includes the former share until its window has passed.
        if let (GateCheck::Prometheus(_), Some(metrics)) = (&check, metrics) {
            policy.entry("initial_delay").or_insert_with(|| compact(metrics.window).into());
        }
        let policy: GatePolicy = from_table(policy, &place)?;
        if policy.interval.is_zero() {
            return Err(Error::usage(format!("{place}: interval is zero"))
                .remedy("Set a time between two checks, such as interval = \"30s\"."));
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
                return Err(Error::usage(format!("{place}: run is empty"))
                    .remedy("Write the program and its arguments: run = [\"./program\", \"argument\"]."));
            }
            Ok(GateCheck::Command(program))
        }
        other => match Preset::named(other) {
            Some(preset) => {
                let metrics = needs_prometheus(metrics, place)?;
                let limits: PresetLimits = from_table(table, place)?;
                Ok(GateCheck::Prometheus(preset.query(metrics, &limits, place)?))
            }
            None => {
                let message = if other.is_empty() {
                    format!("{place}: kind is missing")
                } else {
                    format!("{place}: unknown kind \"{other}\"")
                };
                let presets = Preset::names().join(", ");
                Err(Error::usage(message)
                    .remedy(format!("Set kind to one of prometheus, http, command, {presets}.")))
            }
        },
    }
}

fn needs_prometheus<'a>(metrics: Option<&'a PrometheusConfig>, place: &str) -> Result<&'a PrometheusConfig> {
    metrics.ok_or_else(|| {
        Error::usage(format!("{place} queries Prometheus, which is not configured"))
            .remedy("Add [prometheus] with url = \"http://…:9090\".")
    })
}
