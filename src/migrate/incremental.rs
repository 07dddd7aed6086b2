//! A run after the first one: blue is read and compared with the ledger, and only what differs is read again and staged.
//!
//! Unchanged rows are neither staged nor written. Local changes on green are read at the same time, so that no edit is
//! overwritten unnoticed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::PgConnection;

use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::deletions::Deletions;
use crate::green::journal::AcceptedReject;
use crate::green::ledger::{Ledger, LocalChanges, copy_fields};
use crate::green::merge::ChangedRows;
use crate::green::session::Green;
use crate::green::stage::Stage;
use crate::green::statement::query_scalar;
use crate::inspect::Inspection;
use crate::mapping::digest::{Digest128, RowDigest};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};
use crate::progress::{Observer, ProgressPhase};
use crate::spill::SpillFile;

use super::destination::Destination;
use super::fingerprints::{self, CompareRules, DeleteReason, Fingerprint, TableDifference};
use super::load::Loader;
use super::loaded::LoadedTable;
use super::row_filter::RowFilter;

/// How both sides differ from what earlier runs wrote.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Rows changed on green outside kongferry, by table.
    pub local_changes: BTreeMap<String, LocalChanges>,
    /// Rows changed on blue, by table.
    pub differences: BTreeMap<String, TableDifference>,
    /// What was read of each table, in the plan's order.
    pub loaded: Vec<LoadedTable>,
}

/// Compares blue and green with the ledger.
pub struct LedgerComparer<'a> {
    pub blue: &'a Arc<Blue>,
    pub green: &'a Green,
    pub inspection: &'a Inspection,
    pub ledger: &'a Ledger,
    pub observer: &'a Arc<dyn Observer>,
    /// Overwrite rows that were changed on green outside kongferry.
    pub replace: bool,
    /// Those of the last run.
    pub accepted_rejects: &'a [AcceptedReject],
}

/// A table's rows on blue, and those in the ledger.
type BothSides<'a> = ((&'a TablePlan, SpillFile<Fingerprint>), SpillFile<Fingerprint>);

impl LedgerComparer<'_> {
    /// Reads blue whole and compares. Rows that cannot be converted are recorded in the stage, where there is one.
    pub async fn run(&self, stage: Option<&Stage>) -> Result<Comparison> {
        let moved = &self.inspection.plan.moved;
        self.observer.begin_phase(ProgressPhase::Scanning, moved.len());
        // Both sides are read at the same time.
        let (local_changes, ledgers, (loaded, spill_files)) =
            tokio::try_join!(self.local_changes(), self.ledgers(), self.fingerprint_blue(stage))?;
        let mut found = Comparison { local_changes, loaded, ..Comparison::default() };
        let now = self.now().await?;
        let both = moved.iter().zip(spill_files).zip(ledgers).collect();
        let differences = self.differences(both, &found.local_changes, now)?;
        for ((table, difference), loaded) in moved.iter().zip(differences).zip(&mut found.loaded) {
            loaded.unchanged = difference.unchanged;
            loaded.unchanged_repaired = difference.unchanged_repaired;
            loaded.changed_on_green = difference.changed_on_green;
            found.differences.insert(table.table.clone(), difference);
        }
        Ok(found)
    }

    /// Rows changed on green outside kongferry, table by table.
    async fn local_changes(&self) -> Result<BTreeMap<String, LocalChanges>> {
        let mut all = BTreeMap::new();
        let written = |table: &&TablePlan| self.ledger.contains(&table.table);
        for table in self.inspection.plan.moved.iter().filter(written) {
            let read = self.green.read("cannot read the rows that changed on green", async |tx| {
                Ok(self.ledger.local_changes(self.green, tx, table).await?)
            });
            all.insert(table.table.clone(), read.await?);
        }
        Ok(all)
    }

    /// What earlier runs wrote, in the plan's order.
    async fn ledgers(&self) -> Result<Vec<SpillFile<Fingerprint>>> {
        let mut all = Vec::with_capacity(self.inspection.plan.moved.len());
        for table in &self.inspection.plan.moved {
            let mut entries = SpillFile::default();
            if self.ledger.contains(&table.table) {
                self.ledger
                    .entries(self.green, table, |key, digest, expiry, _| {
                        let row = RowDigest { key, digest, expiry };
                        entries.push(&Fingerprint { row, token: 0, repaired: false, rejected: false })
                    })
                    .await?;
            }
            all.push(entries);
        }
        Ok(all)
    }

    async fn fingerprint_blue(
        &self,
        stage: Option<&Stage>,
    ) -> Result<(Vec<LoadedTable>, Vec<SpillFile<Fingerprint>>)> {
        let spill_files = self.inspection.plan.moved.iter().map(|_| Mutex::default()).collect();
        let destination = Destination::Fingerprints(stage.cloned().map(Box::new), spill_files);
        let loader = Arc::new(Loader::new(self.blue, self.inspection, destination, self.observer));
        let loaded = loader.clone().run().await?;
        let taken = |file: &Mutex<SpillFile<Fingerprint>>| {
            std::mem::take(&mut *file.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let spill_files = match &loader.destination {
            Destination::Fingerprints(_, spill_files) => spill_files.iter().map(taken).collect(),
            Destination::Stage(_) | Destination::Discard(_) => Vec::new(),
        };
        Ok((loaded, spill_files))
    }

    /// Compares all tables, each on a thread of its own: most are over at once, and large ones keep all cores busy.
    fn differences(
        &self,
        both: Vec<BothSides<'_>>,
        local_changes: &BTreeMap<String, LocalChanges>,
        now: i64,
    ) -> Result<Vec<TableDifference>> {
        std::thread::scope(|scope| {
            let compare =
                |((table, blue), ledger)| move || self.difference(table, blue, ledger, local_changes, now);
            let threads: Vec<_> = both.into_iter().map(|sides| scope.spawn(compare(sides))).collect();
            let ended = |thread: std::thread::ScopedJoinHandle<'_, Result<TableDifference>>| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(Error::new(Kind::Server, "a thread of the comparison panicked")))
            };
            threads.into_iter().map(ended).collect()
        })
    }

    fn difference(
        &self,
        table: &TablePlan,
        blue: SpillFile<Fingerprint>,
        ledger: SpillFile<Fingerprint>,
        local_changes: &BTreeMap<String, LocalChanges>,
        now: i64,
    ) -> Result<TableDifference> {
        let accepted = self.accepted_rejects.iter().filter(|reject| reject.table_name == table.table);
        let rejected: HashSet<Digest128> =
            accepted.filter_map(|reject| reject.digest.as_deref()?.try_into().ok()).collect();
        let rules = CompareRules {
            rejected: &rejected,
            merge_by_key: table.writer == Writer::Traffic,
            replace: self.replace,
            now,
        };
        let none = LocalChanges::new();
        fingerprints::compare(blue, ledger, local_changes.get(&table.table).unwrap_or(&none), rules)
    }

    /// Green's clock, which decides what has expired, in microseconds since 2000.
    async fn now(&self) -> Result<i64> {
        let sql = "select floor((extract(epoch from now()) - 946684800) * 1000000)::bigint";
        let read = async |tx: &mut PgConnection| Ok(query_scalar(sql).fetch_one(tx).await?);
        self.green.read("cannot read green's clock", read).await
    }
}

impl Comparison {
    /// The rows to read again, table by table.
    pub fn filters(&mut self, plan: &KeyspacePlan) -> Vec<RowFilter> {
        let loaded = self.loaded.iter();
        plan.moved
            .iter()
            .zip(loaded)
            .map(|(table, loaded)| {
                let Some(difference) = self.differences.get_mut(&table.table) else { return RowFilter::All };
                RowFilter::Keys {
                    keys: difference.to_stage.clone(),
                    tokens: std::mem::take(&mut difference.tokens),
                    table_rows: loaded.source,
                }
            })
            .collect()
    }

    /// Adds the result of the second scan: rows that could not be staged, and rows deleted since the first.
    pub fn add_second_scan(&mut self, plan: &KeyspacePlan, second: Vec<LoadedTable>) {
        for ((table, loaded), second) in plan.moved.iter().zip(&mut self.loaded).zip(second) {
            loaded.staged = second.staged;
            let Some(difference) = self.differences.get_mut(&table.table) else { continue };
            for &key in difference.to_stage.iter().filter(|key| !second.staged_keys.contains(*key)) {
                let is_rejected = second.rejected_keys.contains(&key);
                if !is_rejected {
                    loaded.source = loaded.source.saturating_sub(1);
                }
                if difference.in_ledger.contains(&key) {
                    let reason = if is_rejected { DeleteReason::Rejected } else { DeleteReason::Deleted };
                    difference.deletions.insert(key, reason);
                }
            }
        }
    }

    /// Records which rows are deleted on green, and which were changed there.
    pub async fn record(&self, deletions: &Deletions<'_>, ledger: &Ledger, green: &Green) -> Result<()> {
        for table in &deletions.0.plan.moved {
            if let Some(local_changes) = self.local_changes.get(&table.table) {
                deletions.record_local_changes(table, local_changes).await?;
            }
            let Some(difference) = self.differences.get(&table.table) else { continue };
            if difference.deletions.is_empty() {
                continue;
            }
            let mut rows: Vec<(&'static str, Vec<u8>)> = Vec::with_capacity(difference.deletions.len());
            ledger
                .entries(green, table, |key, _, _, fields| {
                    if let Some(reason) = difference.deletions.get(&key) {
                        rows.push((reason.as_str(), copy_fields(fields)));
                    }
                    Ok(())
                })
                .await?;
            let rows = rows.iter().map(|(reason, key)| (*reason, key.as_slice()));
            deletions.copy_keys(&deletions.table(&table.table), table, rows).await?;
        }
        Ok(())
    }

    /// Whether nothing differs from what earlier runs wrote.
    pub fn is_empty(&self) -> bool {
        self.local_changes.values().all(LocalChanges::is_empty)
            && self.differences.values().all(TableDifference::is_empty)
    }
}

impl ChangedRows for Comparison {
    fn contains(&self, table: &str, key: &Digest128) -> bool {
        self.differences.get(table).is_some_and(|difference| {
            difference.to_stage.contains(key) || difference.deletions.contains_key(key)
        })
    }
}
