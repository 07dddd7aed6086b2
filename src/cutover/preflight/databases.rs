//! Both databases: whether they hold the same, whether people changed something since the last run, and what the data
//! plane writes while traffic is split.

use super::{Preflight, ok, reason, stop, unproven, warn};
use crate::cutover::config::Unproven;
use crate::cutover::integrations::{Databases, changed, differences};
use crate::dns::Finding;
use crate::error::Error;
use crate::mapping::schema_map::Writer;
use crate::verify::report::Report;

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
            match Box::pin(databases.compare()).await {
                Ok(report) => self.judge(&report),
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

    fn judge(&self, report: &Report) -> Vec<Finding> {
        let mut found = Vec::new();
        if report.clean {
            found.push(ok(format!("verify: {} rows of blue read alike on green", report.summary.equal)));
        } else {
            found.push(stop(
                format!("verify: blue and green differ: {}", differences(report)),
                "Run \"kongferry migrate\" again, then \"kongferry verify --findings findings.jsonl\".",
            ));
        }
        if report.run.is_none() {
            found.push(warn(
                "green's journal knows no applied run",
                "Nothing proves that kongferry filled it.",
            ));
        }
        found.extend(self.traffic_tables(report));
        found
    }

    fn traffic_tables(&self, report: &Report) -> Vec<Finding> {
        let known = &self.config.settings.preflight.acknowledge;
        let written = report
            .tables
            .iter()
            .filter(|table| table.writer == Writer::Traffic && table.counts.source + table.counts.extra > 0);
        let open: Vec<&str> =
            written.map(|table| table.table.as_str()).filter(|table| !known.contains(*table)).collect();
        if open.is_empty() {
            return Vec::new();
        }
        vec![stop(
            format!(
                "the data plane writes {} while traffic is split: a token or session made on one side is unknown on the other (401 until the client asks for a new one), quotas count on each side for itself, and after a rollback what was made on green is gone",
                open.join(", ")
            ),
            format!("Read it, tell the owners of the APIs, and add to [preflight]: acknowledge = {open:?}"),
        )]
    }
}

fn not_comparable(error: &Error) -> Finding {
    stop(
        format!("blue and green cannot be compared: {}", reason(error)),
        error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
    )
}

/// Whether people changed anything since the last run, on blue or on green.
async fn drift(databases: &Databases) -> Finding {
    match Box::pin(databases.drift()).await {
        Ok(drift) if drift.clean => ok("nobody has changed blue or green since the last run"),
        Ok(drift) => stop(
            changed(&drift),
            "Freeze the Admin APIs of both, look at \"kongferry verify --since-run\", and run \"kongferry migrate\" again.",
        ),
        Err(error) => stop(
            format!("it cannot be seen what changed since the last run: {}", reason(&error)),
            error.remedy_text().unwrap_or("Mend the connection first.").to_owned(),
        ),
    }
}
