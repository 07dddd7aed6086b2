//! Definitions of Kong's schema on green – tables, indexes, constraints, triggers – against those that the last run
//! left and recorded.

use serde::Serialize;
use serde_json::Value as Shown;

use super::findings::{Finding, Findings, What};
use super::journal::LastRun;
use crate::error::Result;
use crate::green::definitions::{Definitions as Read, Difference};
use crate::green::session::During;
use crate::green::session::Green;

/// How the definitions stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Definitions {
    /// As the run left them.
    Unchanged,
    /// Something is not as the run left it; the findings name it.
    Changed,
    /// No run recorded them.
    NotRecorded,
    /// Only a part of the tables was asked for.
    NotLookedAt,
}

/// What a database administrator may well change after a run, and what makes no difference to Kong's rows.
const LEFT_OUT: &[&str] = &["grants", "statistics target", "options", "options of its toast table"];

/// Names every definition that is not as the run left it.
pub async fn check(green: &Green, run: &LastRun, findings: &mut Findings) -> Result<Definitions> {
    let Some(recorded) = run.definitions.clone().map(|all| all.without(LEFT_OUT)) else {
        return Ok(Definitions::NotRecorded);
    };
    let mut tx = green.begin_snapshot().await?;
    let now = Read::read(&mut tx, green.kong_schema()).await?.without(LEFT_OUT);
    let what = "cannot end a look at the definitions on green";
    tx.rollback().await.during(green, what)?;
    if now.digest() == recorded.digest() {
        return Ok(Definitions::Unchanged);
    }
    for difference in recorded.differences(&now, &std::collections::BTreeSet::new()) {
        findings.write(finding(&difference))?;
    }
    Ok(Definitions::Changed)
}

/// The table is the subject's, or the subject itself; what stands beside tables, such as a function, has none.
fn finding(difference: &Difference) -> Finding {
    let subject = &difference.subject;
    let table = match (subject.table.as_str(), subject.kind.as_str()) {
        ("", "table") => subject.name.clone(),
        (table, _) => table.to_owned(),
    };
    Finding {
        table,
        key: Shown::from(format!("{} {}", subject.kind, subject.name)),
        kind: What::DefinitionChanged,
        column: difference.aspect.clone(),
        // Blue has no such definition; how it was when the run ended stands in its place.
        blue: difference.before.clone().map_or(Shown::Null, Shown::from),
        green: difference.after.clone().map_or(Shown::Null, Shown::from),
        after_repair: false,
    }
}
