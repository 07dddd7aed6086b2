//! What changed on blue since the last run, by key sets and digests against the ledger: what an incremental run would
//! have to apply. A deleted row is drift too: a revoked key must not stay valid on green. Both sides are only read.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::ledger::{Ledger, LocalChange, LocalChanges};
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
pub async fn detect(
    blue: Arc<Blue>,
    green: &Green,
    inspect: &InspectOptions,
    observer: Arc<dyn Observer>,
) -> Result<DriftReport> {
    let mut inspect = inspect.clone();
    inspect.only_reading = true;
    inspect.tables.include.extend(crate::green::ledger::tables(green).await?);
    let inspection = Inspection::read(&blue, green, &inspect).await?;
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
    let plan = &inspection.plan;
    let ledger = Ledger::read(green, plan).await?;
    if ledger.is_empty() {
        return Err(Error::refused(
            "no run has been applied to this database, so there is nothing to compare with",
        )
        .remedy("Run migrate first: drift is measured against the ledger that it writes on green."));
    }
    let accepted_rejects = crate::green::journal::accepted_rejects(green).await?;
    let comparer = LedgerComparer {
        blue: &blue,
        green,
        inspection,
        ledger: &ledger,
        observer: &observer,
        replace: false,
        accepted_rejects: &accepted_rejects,
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
    let none = LocalChanges::new();
    let local_changes = comparison.local_changes.get(table).unwrap_or(&none);
    let is_changed = |key: &Digest128| local_changes.contains_key(key);
    let is_deleted =
        |key: &Digest128| local_changes.get(key).is_some_and(|(change, _)| *change == LocalChange::Deleted);
    // A row that was deleted on both sides is no difference.
    let on_green =
        local_changes.keys().filter(|key| !is_deleted(key) || !difference.deletions.contains_key(*key));
    let changed = difference.in_ledger.iter().filter(|key| !is_changed(key));
    let added = difference.to_stage.difference(&difference.in_ledger).filter(|key| !is_changed(key));
    let deleted = difference
        .deletions
        .iter()
        .filter(|(key, reason)| **reason != DeleteReason::Expired && !is_deleted(key));
    DriftCounts {
        // Rows that the last run rejected are not in the ledger; they are no news.
        added: (added.count() as u64).saturating_sub(difference.rejected_before),
        changed: changed.count() as u64,
        deleted: deleted.count() as u64,
        on_green: on_green.count() as u64,
        rejected: difference.rejected_before,
        unchanged: difference.unchanged,
    }
}

/// `None` where blue cannot be asked: the drift does not depend on it.
async fn newest_write(
    comparison: &Comparison,
    blue: &Blue,
    inspection: &Inspection,
    table: &str,
) -> Option<DateTime<Utc>> {
    let places: Vec<i64> = comparison.differences.get(table)?.tokens.iter().copied().collect();
    let newest = blue.newest_write(inspection.blue.catalog.tables.get(table)?, &places).await;
    let newest = newest.inspect_err(|error| tracing::debug!(%error, table, "The write times are unknown."));
    DateTime::from_timestamp_micros(newest.ok()??)
}

async fn deleted_keys(
    comparison: &Comparison,
    ledger: &Ledger,
    green: &Green,
    table: &TablePlan,
) -> Result<Vec<Value>> {
    let Some(difference) = comparison.differences.get(&table.table) else { return Ok(Vec::new()) };
    let is_deleted = |(_, reason): &(&Digest128, &DeleteReason)| **reason == DeleteReason::Deleted;
    let examples: Vec<_> =
        difference.deletions.iter().filter(is_deleted).take(EXAMPLES).map(|(key, _)| *key).collect();
    if examples.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = Vec::new();
    ledger
        .entries(green, table, |key, _, _, fields| {
            if examples.contains(&key) {
                keys.push(key_json(table, fields));
            }
            Ok(())
        })
        .await?;
    Ok(keys)
}

/// A key as JSON; a column that is neither a uuid nor text becomes hexadecimal bytes.
fn key_json(table: &TablePlan, fields: &[Option<&[u8]>]) -> Value {
    let field_json = |name: &String, bytes: &Option<&[u8]>| {
        let column = table.columns.iter().find(|column| column.name == *name);
        let bytes = bytes.unwrap_or_default();
        let text = match column.map(|column| column.green_type.as_str()) {
            Some("uuid") => uuid::Uuid::from_slice(bytes).map(|id| id.to_string()).ok(),
            Some(kind) if kind.starts_with("text") || kind.starts_with("character") => {
                String::from_utf8(bytes.to_vec()).ok()
            }
            _ => None,
        };
        Value::String(text.unwrap_or_else(|| data_encoding::HEXLOWER.encode(bytes)))
    };
    match (table.key.as_slice(), fields) {
        ([name], [field]) => field_json(name, field),
        (names, fields) => {
            names.iter().zip(fields).map(|(name, field)| (name.clone(), field_json(name, field))).collect()
        }
    }
}
