//! Both databases: whether they hold the same, whether people changed something since the last run, and what the data
//! plane writes while traffic is split.

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
                "blue and green were not compared, and what people change on either side will not be noticed: it is not said where their databases are",
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
                "blue and green were not compared, and nobody looked which tables the data plane writes: preflight.verify is false",
                "See to it that \"kongferry verify\" was clean just now.",
            )]
        };
        found.push(if wanted.drift {
            drift(databases).await
        } else {
            warn(
                "what people change on either side is not noticed: preflight.drift is false",
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
                "the data plane writes {} while traffic is split: a token or session made on one side is unknown on the other (401 until the client asks for a new one), quotas count on each side for itself, and after a rollback what was made on green is gone",
                open.iter().map(|table| table.as_str()).collect::<Vec<_>>().join(", ")
            ),
            format!("Read it, tell the owners of the APIs, and add to [preflight]: acknowledge = {open:?}"),
        )]
    }
}

fn not_comparable(error: &Error) -> Finding {
    stop(
        format!("blue and green cannot be compared: {}", error.one_line()),
        error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
    )
}

/// Whether people changed anything since the last run, on blue or on green.
async fn drift(databases: &dyn Databases) -> Finding {
    match databases.drift().await {
        Ok(None) => ok("nobody has changed blue or green since the last run"),
        Ok(Some(tables)) => stop(
            changed(&tables),
            "Freeze the Admin APIs of both, look at \"kongferry verify --since-run\", and run \"kongferry migrate\" again.",
        ),
        Err(error) => stop(
            format!("it cannot be seen what changed since the last run: {}", error.one_line()),
            error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
        ),
    }
}
