//! A run after the first one: blue is read and compared with the ledger, and only what differs is read again and staged.
//!
//! Unchanged rows are neither staged nor written. Local changes on green are read at the same time, so that no edit is
//! overwritten unnoticed.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::deletions::Deletions;
use crate::green::journal::AcceptedReject;
use crate::green::ledger::{Ledger, LocalChanges, copy_fields};
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::stage::Stage;
use crate::green::statement::query_scalar;
use crate::mapping::digest::{Digest128, RowDigest};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};
use crate::mapping::transcode::RowContext;
use crate::progress::{Observer, ProgressPhase};
use crate::spill::SpillFile;

use super::destination::Destination;
use super::fingerprints::{self, CompareRules, DeleteReason, Fingerprint, TableDifference};
use super::load::{BufferPool, Loader};
use super::loaded::LoadedTable;
use super::row_filter::RowFilter;

/// How both sides differ from what earlier runs wrote.
#[derive(Debug, Default)]
pub struct Comparison {
    /// Rows changed on green outside kongferry, by table.
    pub touched: BTreeMap<String, LocalChanges>,
    /// Rows changed on blue, by table.
    pub differences: BTreeMap<String, TableDifference>,
    /// What was read of each table, in the plan's order.
    pub loaded: Vec<LoadedTable>,
}

/// Compares blue and green with the ledger.
pub struct LedgerComparer<'a> {
    pub blue: Arc<Blue>,
    pub green: &'a Green,
    pub plan: Arc<KeyspacePlan>,
    pub row_context: RowContext,
    pub ledger: &'a Ledger,
    pub observer: Arc<dyn Observer>,
    /// Pages in work at the same time.
    pub parallel: usize,
    /// Overwrite rows that were changed on green outside kongferry.
    pub replace: bool,
    /// What the last run left behind.
    pub left_behind: &'a [AcceptedReject],
}

/// A table's rows on blue, and those in the ledger.
type BothSides<'a> = ((&'a TablePlan, SpillFile<Fingerprint>), SpillFile<Fingerprint>);

impl LedgerComparer<'_> {
    /// Reads blue whole and compares. Rows that cannot be converted are recorded in the stage, where there is one.
    pub async fn run(&self, stage: Option<&Stage>) -> Result<Comparison> {
        self.observer.begin_phase(ProgressPhase::Scanning, self.plan.moved.len());
        // Both sides are read at the same time.
        let (touched, ledgers, (loaded, spools)) =
            tokio::try_join!(self.touched(), self.ledgers(), self.mark(stage))?;
        let mut found = Comparison { touched, loaded, ..Comparison::default() };
        let now = self.now().await?;
        let both = self.plan.moved.iter().zip(spools).zip(ledgers).collect();
        let differences = self.differences(both, &found.touched, now)?;
        for ((table, difference), loaded) in self.plan.moved.iter().zip(differences).zip(&mut found.loaded) {
            loaded.unchanged = difference.unchanged;
            loaded.unchanged_repaired = difference.unchanged_repaired;
            loaded.changed_on_green = difference.changed_on_green;
            found.differences.insert(table.table.clone(), difference);
        }
        Ok(found)
    }

    /// Rows changed on green outside kongferry, table by table.
    async fn touched(&self) -> Result<BTreeMap<String, LocalChanges>> {
        let mut all = BTreeMap::new();
        for table in self.plan.moved.iter().filter(|table| self.ledger.contains(&table.table)) {
            let mut tx = self.green.begin().await?;
            let touched = self.ledger.local_changes(self.green, &mut tx, table).await?;
            tx.rollback().await.during(self.green, "cannot read the rows that changed on green")?;
            all.insert(table.table.clone(), touched);
        }
        Ok(all)
    }

    /// What earlier runs wrote, in the plan's order.
    async fn ledgers(&self) -> Result<Vec<SpillFile<Fingerprint>>> {
        let mut all = Vec::with_capacity(self.plan.moved.len());
        for table in &self.plan.moved {
            let mut known = SpillFile::default();
            if self.ledger.contains(&table.table) {
                self.ledger
                    .entries(self.green, table, |key, digest, expiry, _| {
                        let mark = RowDigest { key, digest, expiry };
                        known.push(&Fingerprint { mark, token: 0, repaired: false, rejected: false })
                    })
                    .await?;
            }
            all.push(known);
        }
        Ok(all)
    }

    async fn mark(&self, stage: Option<&Stage>) -> Result<(Vec<LoadedTable>, Vec<SpillFile<Fingerprint>>)> {
        let spools = self.plan.moved.iter().map(|_| Mutex::new(SpillFile::default())).collect();
        let loader = Arc::new(Loader {
            blue: self.blue.clone(),
            destination: Destination::Fingerprints(stage.cloned().map(Box::new), spools),
            plan: self.plan.clone(),
            row_context: self.row_context.clone(),
            observer: self.observer.clone(),
            parallel: self.parallel,
            filters: Vec::new(),
            buffers: BufferPool::default(),
        });
        let loaded = loader.clone().run().await?;
        let spools = match &loader.destination {
            Destination::Fingerprints(_, spools) => spools
                .iter()
                .map(|spool| std::mem::take(&mut *spool.lock().unwrap_or_else(PoisonError::into_inner)))
                .collect(),
            Destination::Stage(_) | Destination::Discard(_) => Vec::new(),
        };
        Ok((loaded, spools))
    }

    /// Compares all tables, each on a thread of its own: most are over at once, and large ones keep all cores busy.
    fn differences(
        &self,
        both: Vec<BothSides<'_>>,
        touched: &BTreeMap<String, LocalChanges>,
        now: i64,
    ) -> Result<Vec<TableDifference>> {
        std::thread::scope(|scope| {
            let compare = |((table, blue), known)| move || self.difference(table, blue, known, touched, now);
            let threads: Vec<_> = both.into_iter().map(|one| scope.spawn(compare(one))).collect();
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
        spool: SpillFile<Fingerprint>,
        known: SpillFile<Fingerprint>,
        touched: &BTreeMap<String, LocalChanges>,
        now: i64,
    ) -> Result<TableDifference> {
        let here = self.left_behind.iter().filter(|one| one.table_name == table.table);
        let rejected: HashSet<Digest128> =
            here.filter_map(|one| one.mark.as_deref()?.try_into().ok()).collect();
        let rules = CompareRules {
            rejected: &rejected,
            merge_by_key: table.writer == Writer::Traffic,
            replace: self.replace,
            now,
        };
        let none = LocalChanges::new();
        fingerprints::compare(spool, known, touched.get(&table.table).unwrap_or(&none), rules)
    }

    /// Green's clock: it has the last word on what has expired.
    async fn now(&self) -> Result<i64> {
        let what = "cannot read green's clock";
        let sql = "select floor((extract(epoch from now()) - 946684800) * 1000000)::bigint";
        let mut tx = self.green.begin_snapshot().await?;
        let now = query_scalar(sql).fetch_one(&mut *tx).await.during(self.green, what)?;
        tx.rollback().await.during(self.green, what)?;
        Ok(now)
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
                    keys: difference.wanted.clone(),
                    tokens: std::mem::take(&mut difference.tokens),
                    table_rows: loaded.source,
                }
            })
            .collect()
    }

    /// Adds the result of the second scan: rows that could not be staged, and rows deleted since the first.
    pub fn staged(&mut self, plan: &KeyspacePlan, second: Vec<LoadedTable>) {
        for ((table, loaded), second) in plan.moved.iter().zip(&mut self.loaded).zip(second) {
            loaded.staged = second.staged;
            let Some(difference) = self.differences.get_mut(&table.table) else { continue };
            let not_staged: Vec<Digest128> =
                difference.wanted.iter().filter(|key| !second.staged_keys.contains(*key)).copied().collect();
            for key in not_staged {
                let aside = second.rejected_keys.contains(&key);
                if !aside {
                    loaded.source = loaded.source.saturating_sub(1);
                }
                if difference.known.contains(&key) {
                    difference
                        .gone
                        .insert(key, if aside { DeleteReason::Rejected } else { DeleteReason::Deleted });
                }
            }
        }
    }

    /// Records which rows are deleted on green, and which were changed there.
    pub async fn note(&self, gone: &Deletions<'_>, ledger: &Ledger, green: &Green) -> Result<()> {
        for table in &gone.0.plan.moved {
            if let Some(touched) = self.touched.get(&table.table) {
                gone.record_local_changes(table, touched).await?;
            }
            let Some(difference) = self.differences.get(&table.table).filter(|one| !one.gone.is_empty())
            else {
                continue;
            };
            let mut rows: Vec<(&'static str, Vec<u8>)> = Vec::with_capacity(difference.gone.len());
            ledger
                .entries(green, table, |key, _, _, fields| {
                    if let Some(why) = difference.gone.get(&key) {
                        rows.push((why.word(), copy_fields(fields)));
                    }
                    Ok(())
                })
                .await?;
            let area = gone.table(&table.table);
            gone.copy_keys(&area, table, rows.iter().map(|(why, key)| (*why, key.as_slice()))).await?;
        }
        Ok(())
    }

    /// Whether nothing differs from what earlier runs wrote.
    pub fn is_none(&self) -> bool {
        self.touched.values().all(LocalChanges::is_empty)
            && self.differences.values().all(TableDifference::is_none)
    }

    /// Whether the run writes or deletes a row.
    pub fn at_work(&self, table: &str, key: &Digest128) -> bool {
        self.differences
            .get(table)
            .is_some_and(|difference| difference.wanted.contains(key) || difference.gone.contains_key(key))
    }
}
