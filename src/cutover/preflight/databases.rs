//! Preflight of both databases: whether they have the same rows, whether Admin API clients changed them since the last
//! run, and which tables the data plane writes while traffic is split.

use super::{Preflight, unproven};
use crate::cutover::config::Unproven;
use crate::cutover::databases::{DatabaseComparison, Databases};
use crate::cutover::integrations::describe_drift;
use crate::error::Error;
use crate::finding::Finding;

impl Preflight<'_> {
    pub(super) async fn databases(&self) -> Vec<Finding> {
        let Some(databases) = self.databases else {
            return vec![unproven(
                Unproven::Databases,
                "blue and green were not compared, and changes by Admin API clients will not be detected: the databases are not configured",
                "Pass --blue and --green, or set both in kongferry.toml.",
            )];
        };
        let settings = &self.config.settings.preflight;
        let mut findings = if settings.verify {
            match databases.compare().await {
                Ok(comparison) => self.judge(&comparison),
                Err(error) => return vec![failed("blue and green cannot be compared", &error)],
            }
        } else {
            vec![Finding::warning(
                "blue and green were not compared, and the tables that the data plane writes were not checked: preflight.verify is false",
                "Run \"kongferry verify\" before you start.",
            )]
        };
        findings.push(if settings.drift {
            drift(databases).await
        } else {
            Finding::warning(
                "changes by Admin API clients are not detected: preflight.drift is false",
                "Run \"kongferry verify --since-run\" before each step.",
            )
        });
        findings
    }

    fn judge(&self, comparison: &DatabaseComparison) -> Vec<Finding> {
        let mut findings = vec![match &comparison.differences {
            None => {
                Finding::ok(format!("verify: {} rows of blue read alike on green", comparison.equal_rows))
            }
            Some(differences) => Finding::blocker(
                format!("verify: blue and green differ: {differences}"),
                "Run \"kongferry migrate\" again, then \"kongferry verify --findings findings.jsonl\".",
            ),
        }];
        if !comparison.has_applied_run {
            findings.push(Finding::warning(
                "the journal on green has no applied run: the rows were not migrated by kongferry, or the journal was removed",
                "Find out how green got its rows before you start.",
            ));
        }
        findings.extend(self.traffic_tables(comparison));
        findings
    }

    fn traffic_tables(&self, comparison: &DatabaseComparison) -> Option<Finding> {
        let acknowledged = &self.config.settings.preflight.acknowledge;
        let tables = comparison.traffic_tables.iter().map(String::as_str);
        let tables: Vec<&str> = tables.filter(|table| !acknowledged.contains(*table)).collect();
        (!tables.is_empty()).then(|| {
            Finding::blocker(
                format!(
                    "the data plane writes {} while traffic is split: a token or session created on one side is unknown on the other (401 until the client requests a new one), quotas are counted on each side separately, and a rollback loses what was created on green",
                    tables.join(", ")
                ),
                format!("Inform the owners of the APIs, then set [preflight] acknowledge = {tables:?}."),
            )
        })
    }
}

/// A blocker with the remedy of its error.
pub(super) fn failed(message: &str, error: &Error) -> Finding {
    Finding::blocker(
        format!("{message}: {}", error.one_line()),
        error.remedy_text().unwrap_or("Repair the connection to the databases."),
    )
}

async fn drift(databases: &dyn Databases) -> Finding {
    match databases.drift().await {
        Ok(None) => Finding::ok("no Admin API client has changed blue or green since the last run"),
        Ok(Some(tables)) => Finding::blocker(
            describe_drift(&tables),
            "Freeze the Admin APIs of both sides, read \"kongferry verify --since-run\", and run \"kongferry migrate\" again.",
        ),
        Err(error) => failed("cannot detect changes since the last run", &error),
    }
}
