//! Compares one table: digests of all rows first, then field by field the rows whose digests differ, read again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Json;

use super::blue_scan::{BlueScan, RowSink};
use super::differences::{Difference, DifferenceKind, DifferenceLog};
use super::green_scan::GreenScan;
use super::key::canonical_key;
use super::kong_row::KongRow;
use super::options::Coverage;
use super::reading_rules::ReadingRules;
use super::report::{RowCounts, VerifyTableReport};
use super::row_digests::{DigestSpill, RowDigest, RowHasher, RowKey};
use super::value::rfc3339;
use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::session::Green;
use crate::progress::{NoProgress, Observer};

/// Two expiries so near are the same: each side counts by a clock of its own (docs/architecture.md, "Time to live").
const SAME_EXPIRY_MS: i64 = 2_000;

/// Rows that are read again at a time: all rows of a table may differ, and memory stays bounded.
const BATCH: usize = 2_000;

/// The same where rows cannot be read by id, so that each batch reads the whole table.
const BATCH_BY_SCAN: usize = 20_000;

pub(crate) struct TableComparer<'a> {
    pub(crate) blue: Arc<Blue>,
    pub(crate) green: &'a Green,
    pub(crate) observer: Arc<dyn Observer>,
    /// Parts of blue that are read at the same time.
    pub(crate) parallel: usize,
    pub(crate) workspace_column: Option<&'a str>,
    pub(crate) cache_key_column: Option<&'a str>,
    pub(crate) coverage: Coverage,
}

type Rows = HashMap<RowKey, KongRow>;

/// Rows of green's bootstrap, by their place in the rules, of which blue has a row of its own.
type BootstrapOnBlue = HashSet<usize>;

/// What comparing rows of one table field by field needs.
#[derive(Clone, Copy)]
struct TableContext<'a> {
    table: &'a Arc<ReadingRules>,
    hasher: &'a RowHasher,
    rejected: &'a HashSet<String>,
    bootstrap_on_blue: &'a BootstrapOnBlue,
}

/// A row whose digests differ, or that one side lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    key: RowKey,
    was_on_blue: bool,
}

/// The digests of a table's rows.
struct Scanned {
    on_blue: DigestSpill,
    on_green: DigestSpill,
    /// Rows that Kong does not read: of other partitions, of deleted workspaces.
    not_read: u64,
    bootstrap_on_blue: BootstrapOnBlue,
}

impl TableComparer<'_> {
    /// Compares one table; `rejected` are the keys of the run's rejects.
    pub(crate) async fn compare(
        &self,
        table: Arc<ReadingRules>,
        rejected: &HashSet<String>,
        differences: &mut DifferenceLog,
    ) -> Result<VerifyTableReport> {
        let hasher = RowHasher::new();
        let scanned = self.scan(&table, &hasher).await?;
        let not_copied = scanned.not_read;
        let source = scanned.on_blue.rows() + not_copied;
        let mut counts = RowCounts { source, not_copied, ..RowCounts::default() };
        let mut candidates = Vec::new();
        for (blue, green) in scanned.on_blue.partitions().zip(scanned.on_green.partitions()) {
            match_digests(
                blue?.into_iter().collect(),
                green?.into_iter().collect(),
                &mut counts,
                &mut candidates,
            );
        }
        // Every call reports the same differences in the same order.
        candidates.sort_unstable();
        let context = TableContext {
            table: &table,
            hasher: &hasher,
            rejected,
            bootstrap_on_blue: &scanned.bootstrap_on_blue,
        };
        let batch = if table.by_id.is_some() { BATCH } else { BATCH_BY_SCAN };
        for batch in candidates.chunks(batch) {
            self.compare_again(context, batch, &mut counts, differences).await?;
        }
        self.observer.table_done(&table.name);
        check_sum(&table.name, &counts)?;
        Ok(VerifyTableReport {
            table: table.name.clone(),
            writer: table.writer,
            counts,
            not_compared: table.not_compared.clone(),
        })
    }

    async fn scan(&self, table: &Arc<ReadingRules>, hasher: &RowHasher) -> Result<Scanned> {
        let spill = || Arc::new(Mutex::new(DigestSpill::default()));
        let (on_blue, on_green) = (spill(), spill());
        let into = |spill: &Arc<Mutex<DigestSpill>>| -> RowSink {
            let (spill, table, hasher) = (spill.clone(), table.clone(), hasher.clone());
            Arc::new(move |row| {
                let digest = hasher.digest(&table, &row);
                spill.lock().unwrap_or_else(PoisonError::into_inner).push(&digest)
            })
        };
        let green_scan = self.green_scan(table, into(&on_green));
        let bootstrap_on_blue = Arc::new(Mutex::new(BootstrapOnBlue::new()));
        let (keep, rules, seen) = (into(&on_blue), table.clone(), bootstrap_on_blue.clone());
        let sink: RowSink = Arc::new(move |row| {
            if let Some(bootstrap_row) = rules.bootstrap_row(&row) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(bootstrap_row);
            }
            keep(row)
        });
        let blue_scan = self.blue_scan(table, sink, false).run(self.coverage);
        let (not_read, ()) = futures::try_join!(blue_scan, green_scan.run(self.coverage))?;
        Ok(Scanned {
            on_blue: take(&on_blue),
            on_green: take(&on_green),
            not_read,
            bootstrap_on_blue: take(&bootstrap_on_blue),
        })
    }

    fn blue_scan(&self, table: &Arc<ReadingRules>, sink: RowSink, all_workspaces: bool) -> BlueScan {
        BlueScan {
            blue: self.blue.clone(),
            table: table.clone(),
            sink,
            // Reading rows again is not progress.
            observer: if all_workspaces { Arc::new(NoProgress) } else { self.observer.clone() },
            parallel: self.parallel,
            all_workspaces,
        }
    }

    fn green_scan(&self, table: &Arc<ReadingRules>, sink: RowSink) -> GreenScan {
        GreenScan { green: self.green.clone(), table: table.clone(), sink }
    }

    /// Reads rows of every workspace, so that a row in the wrong workspace is found on both sides.
    async fn read_again(
        &self,
        table: &Arc<ReadingRules>,
        ids: &[RowKey],
        blue: RowSink,
        green: RowSink,
    ) -> Result<()> {
        let (blue, green) = (self.blue_scan(table, blue, true), self.green_scan(table, green));
        match (&table.by_id, table.key_name()) {
            (Some(key), Some(column)) => {
                futures::try_join!(blue.by_id(key, ids), green.by_id(column, ids))?;
            }
            _ => {
                futures::try_join!(blue.run(Coverage::Full), green.all_workspaces())?;
            }
        }
        Ok(())
    }

    /// Reads these rows again and reports what differs now.
    async fn compare_again(
        &self,
        context: TableContext<'_>,
        candidates: &[Candidate],
        counts: &mut RowCounts,
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        let TableContext { table, hasher, .. } = context;
        let keys: Arc<HashSet<RowKey>> = Arc::new(candidates.iter().map(|row| row.key).collect());
        let rows = || Arc::new(Mutex::new(Rows::new()));
        let (on_blue, on_green) = (rows(), rows());
        let into = |rows: &Arc<Mutex<Rows>>| -> RowSink {
            let (rows, table, hasher, keys) = (rows.clone(), table.clone(), hasher.clone(), keys.clone());
            Arc::new(move |row| {
                let (key, _) = hasher.digest(&table, &row);
                if keys.contains(&key) {
                    rows.lock().unwrap_or_else(PoisonError::into_inner).insert(key, row);
                }
                Ok(())
            })
        };
        let ids: Vec<RowKey> = candidates.iter().map(|row| row.key).collect();
        self.read_again(table, &ids, into(&on_blue), into(&on_green)).await?;
        let (mut on_blue, mut on_green): (Rows, Rows) = (take(&on_blue), take(&on_green));
        for candidate in candidates {
            let (blue, green) = (on_blue.remove(&candidate.key), on_green.remove(&candidate.key));
            // Blue is in use: a row that was inserted or deleted since the scan is counted as it is now.
            match (candidate.was_on_blue, blue.is_some()) {
                (true, false) => counts.source -= 1,
                (false, true) => counts.source += 1,
                _ => {}
            }
            match (blue, green) {
                (Some(blue), Some(green)) => {
                    self.compare_fields(table, &blue, &green, counts, differences)?;
                }
                (Some(blue), None) => classify_without_green(context, &blue, counts, differences)?,
                (None, Some(green)) => classify_without_blue(context, &green, counts, differences)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn compare_fields(
        &self,
        table: &ReadingRules,
        blue: &KongRow,
        green: &KongRow,
        counts: &mut RowCounts,
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        let mut is_different = false;
        for ((column, on_blue), on_green) in table.columns.iter().zip(&blue.values).zip(&green.values) {
            if on_blue.same(on_green) {
                continue;
            }
            is_different = true;
            differences.write(Difference {
                column: Some(column.name.clone()),
                blue: differences.redacted(&table.name, &column.name, on_blue),
                green: differences.redacted(&table.name, &column.name, on_green),
                ..difference(table, blue, self.kind(&column.name))
            })?;
        }
        if !is_same_expiry(blue.expiry, green.expiry) {
            is_different = true;
            let json =
                |expiry: Option<i64>| expiry.map_or(Json::Null, |ms| rfc3339(ms.saturating_mul(1000)).into());
            differences.write(Difference {
                column: table.expiry.clone(),
                blue: json(blue.expiry),
                green: json(green.expiry),
                ..difference(table, blue, DifferenceKind::WrongExpiry)
            })?;
        }
        match (is_different, blue.is_repaired) {
            (true, _) => counts.different += 1,
            (false, true) => counts.repaired += 1,
            (false, false) => counts.equal += 1,
        }
        Ok(())
    }

    fn kind(&self, column: &str) -> DifferenceKind {
        if self.workspace_column == Some(column) {
            DifferenceKind::WrongWorkspace
        } else if self.cache_key_column == Some(column) {
            DifferenceKind::WrongCacheKey
        } else {
            DifferenceKind::Different
        }
    }
}

/// Every row of blue is in exactly one class.
fn check_sum(table: &str, counts: &RowCounts) -> Result<()> {
    if counts.add_up() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Server,
        format!("the row counts of the table \"{table}\" do not add up: {counts:?}"),
    )
    .remedy("Run the command again. If the error persists, report it as a defect of kongferry."))
}

/// Counts the rows whose digests agree and collects the others.
fn match_digests(
    blue: HashMap<RowKey, RowDigest>,
    mut green: HashMap<RowKey, RowDigest>,
    counts: &mut RowCounts,
    candidates: &mut Vec<Candidate>,
) {
    for (key, on_blue) in blue {
        match green.remove(&key) {
            Some(on_green)
                if on_blue.values == on_green.values && is_same_expiry(on_blue.expiry, on_green.expiry) =>
            {
                if on_blue.is_repaired {
                    counts.repaired += 1;
                } else {
                    counts.equal += 1;
                }
            }
            _ => candidates.push(Candidate { key, was_on_blue: true }),
        }
    }
    candidates.extend(green.into_keys().map(|key| Candidate { key, was_on_blue: false }));
}

fn classify_without_green(
    context: TableContext<'_>,
    row: &KongRow,
    counts: &mut RowCounts,
    differences: &mut DifferenceLog,
) -> Result<()> {
    if has_expired(row.expiry) {
        counts.expired += 1;
    } else if context.rejected.contains(&canonical_key(&context.table.key_json(row))) {
        // Matched by key, because the journal keeps no other values of a row.
        counts.rejected += 1;
    } else {
        counts.missing += 1;
        differences.write(difference(context.table, row, DifferenceKind::Missing))?;
    }
    Ok(())
}

/// A row of green's bootstrap stays where blue has no row that replaces it.
fn classify_without_blue(
    context: TableContext<'_>,
    row: &KongRow,
    counts: &mut RowCounts,
    differences: &mut DifferenceLog,
) -> Result<()> {
    let bootstrap_row = context.table.bootstrap_row(row);
    if bootstrap_row.is_some_and(|place| !context.bootstrap_on_blue.contains(&place))
        || has_expired(row.expiry)
    {
        return Ok(());
    }
    counts.extra += 1;
    differences.write(difference(context.table, row, DifferenceKind::Extra))
}

fn difference(table: &ReadingRules, row: &KongRow, kind: DifferenceKind) -> Difference {
    Difference::new(&table.name, table.key_json(row), kind)
}

fn is_same_expiry(blue: Option<i64>, green: Option<i64>) -> bool {
    match (blue, green) {
        (Some(blue), Some(green)) => blue.abs_diff(green) <= SAME_EXPIRY_MS.unsigned_abs(),
        (blue, green) => blue == green,
    }
}

/// Also true of a row that expires at this moment.
fn has_expired(expiry: Option<i64>) -> bool {
    expiry.is_some_and(|at| at <= chrono::Utc::now().timestamp_millis().saturating_add(SAME_EXPIRY_MS))
}

fn take<T: Default>(shared: &Mutex<T>) -> T {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}
