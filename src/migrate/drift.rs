//! What changed on blue since the last run, by key sets and digests against the ledger: what an incremental run would
//! have to apply. A deleted row is drift too: a revoked key must not stay valid on green. Both sides are only read.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::ledger::{Ledger, LocalChange};
use crate::green::session::Green;
use crate::inspect::{InspectOptions, Inspection};
use crate::mapping::digest::Digest128;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;
use crate::progress::Observer;

use super::fingerprints::DeleteReason;
use super::incremental::{Comparison, LedgerComparer};
use crate::database_info::DatabaseInfo;

/// Keys shown of one kind of change.
const EXAMPLES: usize = 5;

#[derive(Debug, Clone, Serialize)]
pub struct DriftReport {
    /// Version of this structure, 1.
    pub format: u32,
    pub blue: DatabaseInfo,
    pub green: DatabaseInfo,
    /// Whether no admin table differs; traffic tables are only reported.
    pub clean: bool,
    /// Sums over the tables that the Admin API writes.
    pub admin: DriftCounts,
    /// Sums over the tables that the data plane writes.
    pub traffic: DriftCounts,
    pub tables: Vec<TableDrift>,
    pub seconds: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DriftCounts {
    /// Rows that the last run did not know.
    pub added: u64,
    pub changed: u64,
    /// Rows that blue has no longer; not those whose time had run out.
    pub deleted: u64,
    /// Rows inserted, edited or deleted on green outside kongferry.
    pub on_green: u64,
    /// Rows that the last run left behind, and that are as they were.
    pub rejected: u64,
    /// Rows that are as they were written.
    pub unchanged: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TableDrift {
    pub table: String,
    pub writer: Writer,
    #[serde(flatten)]
    pub counts: DriftCounts,
    /// Keys of some deleted rows, which are on green until the next run.
    pub deleted_keys: Vec<Value>,
    /// When the new and changed rows were written last, by blue's clock: the newest write where they are. It explains,
    /// and decides nothing; a deletion has no time that could be asked for.
    pub newest_write: Option<DateTime<Utc>>,
}

impl DriftCounts {
    pub fn add(&mut self, other: &DriftCounts) {
        self.added += other.added;
        self.changed += other.changed;
        self.deleted += other.deleted;
        self.on_green += other.on_green;
        self.rejected += other.rejected;
        self.unchanged += other.unchanged;
    }

    pub fn is_none(&self) -> bool {
        self.added + self.changed + self.deleted + self.on_green == 0
    }
}

impl DriftReport {
    /// 0 where no admin table differs, else 3.
    pub fn exit_code(&self) -> u8 {
        if self.clean { 0 } else { 3 }
    }

    /// The admin tables that differ, with numbers of rows, as part of a sentence.
    pub fn in_tables(&self) -> String {
        let tables = self.tables.iter().filter(|table| table.writer == Writer::Admin).map(|table| {
            let DriftCounts { added, changed, deleted, on_green, .. } = table.counts;
            let parts = [
                (added, "new on blue"),
                (changed, "changed on blue"),
                (deleted, "deleted on blue"),
                (on_green, "changed on green"),
            ];
            let parts: Vec<String> = parts
                .iter()
                .filter(|(rows, _)| *rows > 0)
                .map(|(rows, what)| format!("{rows} {what}"))
                .collect();
            format!("{} {}", table.table, parts.join(" and "))
        });
        tables.collect::<Vec<String>>().join(", ")
    }

    /// One sentence for a gate or a summary.
    pub fn sentence(&self) -> String {
        let DriftCounts { added, changed, deleted, on_green, .. } = self.admin;
        if self.clean {
            return "No table written through the Admin API has changed since the last run.".to_owned();
        }
        format!(
            "Since the last run, on blue: {added} new, {changed} changed, {deleted} deleted; changed on green: {on_green}."
        )
    }
}

/// Inspects both sides and compares them with what the last run wrote. Tables that an earlier run included on request
/// are included.
pub async fn look(
    blue: Arc<Blue>,
    green: &Green,
    choices: &InspectOptions,
    observer: Arc<dyn Observer>,
) -> Result<DriftReport> {
    let mut choices = choices.clone();
    choices.only_reading = true;
    choices.tables.include.extend(crate::green::ledger::tables(green).await?);
    let inspection = Inspection::read(&blue, green, &choices).await?;
    inspection.refusal()?;
    run(blue, green, &inspection, observer).await
}

/// Compares blue and green with what the last run wrote.
pub async fn run(
    blue: Arc<Blue>,
    green: &Green,
    inspection: &Inspection,
    observer: Arc<dyn Observer>,
) -> Result<DriftReport> {
    let began = Instant::now();
    let plan = Arc::new(inspection.plan.clone());
    let ledger = Ledger::read(green, &plan).await?;
    if ledger.is_empty() {
        return Err(Error::refused(
            "no run has been applied to this database, so there is nothing to compare with",
        )
        .remedy("Run migrate first; the ledger that it leaves on green says what was written."));
    }
    let left_behind = crate::green::journal::accepted_rejects(green).await?;
    let comparer = LedgerComparer {
        blue: blue.clone(),
        green,
        plan: plan.clone(),
        row_context: super::row_context(inspection),
        ledger: &ledger,
        observer: observer.clone(),
        parallel: blue.parallel(),
        replace: false,
        left_behind: &left_behind,
    };
    let result = comparer.run(None).await;
    observer.finish();
    let comparison = result?;
    let mut drift = DriftReport {
        format: 1,
        blue: blue.as_ref().into(),
        green: green.into(),
        clean: true,
        admin: DriftCounts::default(),
        traffic: DriftCounts::default(),
        tables: Vec::new(),
        seconds: 0.0,
    };
    for table in &plan.moved {
        let counts = counts(&comparison, &table.table);
        let sum = match table.writer {
            Writer::Admin => &mut drift.admin,
            Writer::Traffic => &mut drift.traffic,
        };
        sum.add(&counts);
        if counts.is_none() {
            continue;
        }
        drift.tables.push(TableDrift {
            table: table.table.clone(),
            writer: table.writer,
            counts,
            deleted_keys: deleted_keys(&comparison, &ledger, green, table).await?,
            newest_write: match counts.added + counts.changed {
                0 => None,
                _ => newest_write(&comparison, &blue, inspection, &table.table).await,
            },
        });
    }
    drift.clean = drift.admin.is_none();
    drift.seconds = began.elapsed().as_secs_f64();
    Ok(drift)
}

fn counts(comparison: &Comparison, table: &str) -> DriftCounts {
    let Some(difference) = comparison.differences.get(table) else { return DriftCounts::default() };
    let touched = comparison.touched.get(table);
    // A row that was deleted on both sides is no difference.
    let matters = |key: &Digest128, touch: LocalChange| {
        touch != LocalChange::Removed || !difference.gone.contains_key(key)
    };
    let on_green =
        touched.into_iter().flatten().filter(|(key, (touch, _))| matters(key, *touch)).count() as u64;
    let removed = |key: &Digest128| {
        touched.and_then(|rows| rows.get(key)).is_some_and(|(touch, _)| *touch == LocalChange::Removed)
    };
    let is_edited = |key: &Digest128| touched.is_some_and(|rows| rows.contains_key(key));
    let changed = difference.known.iter().filter(|key| !is_edited(key)).count() as u64;
    let added =
        difference.wanted.iter().filter(|key| !difference.known.contains(*key) && !is_edited(key)).count();
    let of = |wanted: DeleteReason| {
        difference.gone.iter().filter(|(key, why)| **why == wanted && !removed(key)).count() as u64
    };
    DriftCounts {
        // Rows that the last run rejected are not in the ledger; they are no news.
        added: (added as u64).saturating_sub(difference.rejected_before),
        changed,
        deleted: of(DeleteReason::Deleted) + of(DeleteReason::Rejected),
        on_green,
        rejected: difference.rejected_before,
        unchanged: difference.unchanged,
    }
}

/// `None` where blue does not tell: the drift does not depend on it.
async fn newest_write(
    comparison: &Comparison,
    blue: &Blue,
    inspection: &Inspection,
    table: &str,
) -> Option<DateTime<Utc>> {
    let places: Vec<i64> = comparison.differences.get(table)?.tokens.iter().copied().collect();
    let asked = blue.newest_write(inspection.blue.catalog.tables.get(table)?, &places).await;
    let newest = asked.inspect_err(|error| tracing::debug!(%error, table, "No time of writing."));
    DateTime::from_timestamp_micros(newest.ok()??)
}

async fn deleted_keys(
    comparison: &Comparison,
    ledger: &Ledger,
    green: &Green,
    table: &TablePlan,
) -> Result<Vec<Value>> {
    let Some(difference) = comparison.differences.get(&table.table) else { return Ok(Vec::new()) };
    let gone: Vec<_> = difference
        .gone
        .iter()
        .filter(|(_, why)| **why == DeleteReason::Deleted)
        .map(|(key, _)| *key)
        .take(EXAMPLES)
        .collect();
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    ledger
        .entries(green, table, |key, _, _, fields| {
            if gone.contains(&key) {
                keys.push(shown(table, fields));
            }
            Ok(())
        })
        .await?;
    Ok(keys)
}

/// A key as JSON; a column that is neither a uuid nor text becomes hexadecimal bytes.
fn shown(table: &TablePlan, fields: &[Option<&[u8]>]) -> Value {
    let one = |name: &String, bytes: &Option<&[u8]>| {
        let column = table.columns.iter().find(|column| column.name == *name);
        let bytes = bytes.unwrap_or_default();
        let text = match column.map(|column| column.green_type.as_str()) {
            Some("uuid") => uuid::Uuid::from_slice(bytes).map(|id| id.to_string()).ok(),
            Some(kind) if kind.starts_with("text") || kind.starts_with("character") => {
                String::from_utf8(bytes.to_vec()).ok()
            }
            _ => None,
        };
        let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Value::String(text.unwrap_or_else(hex))
    };
    match (table.key.as_slice(), fields) {
        ([name], [field]) => one(name, field),
        (names, fields) => {
            names.iter().zip(fields).map(|(name, field)| (name.clone(), one(name, field))).collect()
        }
    }
}
