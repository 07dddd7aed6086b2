//! Both databases: whether they have the same rows, whether Admin API clients changed them since the last run, and what
//! the data plane writes while traffic is split.

use super::{Preflight, ok, stop, unproven, warn};
use crate::cutover::config::Unproven;
use crate::cutover::databases::{DatabaseComparison, Databases};
use crate::cutover::integrations::changed;
use crate::error::Error;
use crate::finding::Finding;

impl Preflight<'_> {
    pub(super) async fn databases(&self) -> Vec<Finding> {
        let Some(databases) = self.databases else {
            return vec![unproven(
                Unproven::Databases,
                "blue and green were not compared, and changes by Admin API clients will not be detected: the databases are not configured",
                "Give --blue and --green (or kongferry.toml).",
            )];
        };
        let wanted = &self.config.settings.preflight;
        let mut found = if wanted.verify {
            match databases.compare().await {
                Ok(comparison) => self.judge(&comparison),
                Err(error) => return vec![not_comparable(&error)],
            }
        } else {
            vec![warn(
                "blue and green were not compared, and the tables that the data plane writes were not checked: preflight.verify is false",
                "Run \"kongferry verify\" before you start.",
            )]
        };
        found.push(if wanted.drift {
            drift(databases).await
        } else {
            warn(
                "changes by Admin API clients are not detected: preflight.drift is false",
                "Run \"kongferry verify --since-run\" before each step.",
            )
        });
        found
    }

    fn judge(&self, comparison: &DatabaseComparison) -> Vec<Finding> {
        let mut found = Vec::new();
        found.push(match &comparison.differences {
            None => ok(format!("verify: {} rows of blue read alike on green", comparison.equal_rows)),
            Some(differences) => stop(
                format!("verify: blue and green differ: {differences}"),
                "Run \"kongferry migrate\" again, then \"kongferry verify --findings findings.jsonl\".",
            ),
        });
        if !comparison.has_applied_run {
            found.push(warn(
                "green's journal knows no applied run",
                "Nothing proves that kongferry filled it.",
            ));
        }
        found.extend(self.traffic_tables(comparison));
        found
    }

    fn traffic_tables(&self, comparison: &DatabaseComparison) -> Vec<Finding> {
        let known = &self.config.settings.preflight.acknowledge;
        let open: Vec<&String> =
            comparison.traffic_tables.iter().filter(|table| !known.contains(*table)).collect();
        if open.is_empty() {
            return Vec::new();
        }
        vec![stop(
            format!(
                "the data plane writes {} while traffic is split: a token or session created on one side is unknown on the other (401 until the client requests a new one), quotas are counted on each side separately, and a rollback loses what was created on green",
                open.iter().map(|table| table.as_str()).collect::<Vec<_>>().join(", ")
            ),
            format!("Inform the owners of the APIs, then add to [preflight]: acknowledge = {open:?}"),
        )]
    }
}

fn not_comparable(error: &Error) -> Finding {
    stop(
        format!("blue and green cannot be compared: {}", error.one_line()),
        error.remedy_text().unwrap_or("Repair the connection first.").to_owned(),
    )
}

/// Whether Admin API clients changed blue or green since the last run.
async fn drift(databases: &dyn Databases) -> Finding {
    match databases.drift().await {
        Ok(None) => ok("no Admin API client has changed blue or green since the last run"),
        Ok(Some(tables)) => stop(
            changed(&tables),
            "Freeze the Admin APIs of both sides, read \"kongferry verify --since-run\", and run \"kongferry migrate\" again.",
        ),
        Err(error) => stop(
            format!("cannot detect changes since the last run: {}", error.one_line()),
            error.remedy_text().unwrap_or("Repair the connection first.").to_owned(),
        ),
    }
}
