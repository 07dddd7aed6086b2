//! Compares the definitions of Kong's schema on green – tables, indexes, constraints, triggers – with those that the
//! last run left and recorded.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value as Json;
use sqlx::PgConnection;

use super::differences::{Difference, DifferenceKind, DifferenceLog};
use super::last_run::LastRun;
use crate::error::Result;
use crate::green::definitions::{self, Definitions};
use crate::green::session::Green;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DefinitionsState {
    Unchanged,
    /// The differences name each changed definition.
    Changed,
    NotRecorded,
    /// Only some tables or rows were compared.
    #[serde(rename = "not_looked_at")]
    NotCompared,
}

/// What a database administrator may change after a run without an effect on Kong's rows.
const IGNORED_ASPECTS: &[&str] = &["grants", "statistics target", "options", "options of its toast table"];

/// Reports every definition that is not as the run left it.
pub(super) async fn compare(
    green: &Green,
    run: &LastRun,
    differences: &mut DifferenceLog,
) -> Result<DefinitionsState> {
    let Some(recorded) = run.definitions.clone().map(|all| all.without(IGNORED_ASPECTS)) else {
        return Ok(DefinitionsState::NotRecorded);
    };
    let read = async |tx: &mut PgConnection| Ok(Definitions::read(tx, green.kong_schema()).await?);
    let current = green.read("cannot read the definitions on green", read).await?.without(IGNORED_ASPECTS);
    if current.digest() == recorded.digest() {
        return Ok(DefinitionsState::Unchanged);
    }
    for change in recorded.differences(&current, &BTreeSet::new()) {
        differences.write(difference(&change))?;
    }
    Ok(DefinitionsState::Changed)
}

/// A table's own definition names that table; what belongs to no table, such as a function, names none.
fn difference(change: &definitions::DefinitionChange) -> Difference {
    let subject = &change.subject;
    let table = match (subject.table.as_str(), subject.kind.as_str()) {
        ("", "table") => &subject.name,
        (table, _) => table,
    };
    let key = Json::from(format!("{} {}", subject.kind, subject.name));
    Difference {
        column: change.aspect.clone(),
        // Blue has no such definition: "blue" holds how it was when the run ended.
        blue: change.before.clone().map_or(Json::Null, Json::from),
        green: change.after.clone().map_or(Json::Null, Json::from),
        ..Difference::new(table, key, DifferenceKind::DefinitionChanged)
    }
}
