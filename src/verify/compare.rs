//! One table: marks of both sides first, then only the rows whose marks differ, read again and field by field.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value as Shown;

use super::Share;
use super::findings::{Finding, Findings, What};
use super::green_scan::GreenScan;
use super::report::{Counts, TableReport};
use super::rules::{Row, Table};
use super::scan::{BlueScan, Sink};
use super::spool::{Digest128, Mark, Marker, SpillFile};
use super::value::instant;
use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::session::Green;
use crate::progress::{Observer, Unwatched};

/// Two expiries so near are the same: each side counts from a clock of its own (DESIGN, "Time to live").
const SAME_EXPIRY_MS: i64 = 2_000;

/// Rows read again at a time: what differs may be all of a table, and memory stays flat.
const AT_A_TIME: usize = 2_000;

/// The same where a row has no id to be read by, so that each time the whole table is read.
const AT_A_TIME_IN_A_SCAN: usize = 20_000;

/// Everything that comparing a table needs.
pub struct Comparison<'a> {
    /// Blue.
    pub blue: Arc<Blue>,
    /// Green.
    pub green: &'a Green,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Parts of blue read at the same time.
    pub parallel: usize,
    /// The column with a row's workspace.
    pub workspace: Option<&'a str>,
    /// The column with a composite key.
    pub cache_key: Option<&'a str>,
    /// How much of each table is looked at.
    pub share: Share,
}

type Rows = HashMap<Digest128, Row>;

/// What a second look at rows of one table needs.
#[derive(Clone, Copy)]
struct Look<'a> {
    table: &'a Arc<Table>,
    marker: &'a Marker,
    rejected: &'a HashSet<String>,
    /// Rows of green's bootstrap of which blue has its own.
    seen: &'a HashSet<usize>,
}

/// A row to be read again, and whether blue had it at the first look.
type Suspect = (Digest128, bool);

impl Comparison<'_> {
    /// Compares one table; `rejected` are the keys that the run left behind.
    pub async fn table(
        &self,
        table: Arc<Table>,
        rejected: &HashSet<String>,
        findings: &mut Findings,
    ) -> Result<TableReport> {
        let marker = Marker::new();
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let (on_blue, on_green, foreign) = self.marks(&table, &marker, &seen).await?;
        let seen = taken(&seen);
        let mut counts = Counts { source: on_blue.rows + foreign, not_copied: foreign, ..Counts::default() };
        let mut suspects = Vec::new();
        for (blue, green) in on_blue.partitions().zip(on_green.partitions()) {
            sift(blue?, green?, &mut counts, &mut suspects);
        }
        // The same rows are named in the same order by each call.
        suspects.sort_unstable();
        let at_a_time = if table.by_id.is_some() { AT_A_TIME } else { AT_A_TIME_IN_A_SCAN };
        for some in suspects.chunks(at_a_time) {
            let looked = Look { table: &table, marker: &marker, rejected, seen: &seen };
            self.look_again(looked, some, &mut counts, findings).await?;
        }
        self.observer.done(&table.name);
        accounted_for(&table.name, &counts)?;
        Ok(TableReport {
            table: table.name.clone(),
            writer: table.writer,
            counts,
            not_compared: table.not_compared.clone(),
        })
    }

    async fn marks(
        &self,
        table: &Arc<Table>,
        marker: &Marker,
        seen: &Arc<Mutex<HashSet<usize>>>,
    ) -> Result<(SpillFile, SpillFile, u64)> {
        let spool = || Arc::new(Mutex::new(SpillFile::new()));
        let (on_blue, on_green) = (spool(), spool());
        let into = |spool: &Arc<Mutex<SpillFile>>| -> Sink {
            let (spool, table, marker) = (spool.clone(), table.clone(), marker.clone());
            Arc::new(move |row| {
                let (key, mark) = marker.mark(&table, &row);
                spool.lock().unwrap_or_else(PoisonError::into_inner).push(key, mark)
            })
        };
        let on_green_side = self.green_scan(table, into(&on_green));
        let (keep, table_of, seen) = (into(&on_blue), table.clone(), seen.clone());
        let noting: Sink = Arc::new(move |row| {
            if let Some(at) = table_of.bootstrap_row(&row) {
                seen.lock().unwrap_or_else(PoisonError::into_inner).insert(at);
            }
            keep(row)
        });
        let blue = self.blue_scan(table, noting, false).run(self.share);
        let (foreign, ()) = futures::try_join!(blue, on_green_side.run(self.share))?;
        Ok((taken(&on_blue), taken(&on_green), foreign))
    }

    fn blue_scan(&self, table: &Arc<Table>, sink: Sink, everywhere: bool) -> BlueScan {
        BlueScan {
            blue: self.blue.clone(),
            table: table.clone(),
            sink,
            // The second look is not progress.
            observer: if everywhere { Arc::new(Unwatched) } else { self.observer.clone() },
            parallel: self.parallel,
            everywhere,
        }
    }

    fn green_scan(&self, table: &Arc<Table>, sink: Sink) -> GreenScan {
        GreenScan { green: self.green.clone(), table: table.clone(), sink }
    }

    /// Reads rows again, of whatever workspace: one that moved to another is found on both sides.
    async fn read_again(&self, table: &Arc<Table>, ids: &[Digest128], blue: Sink, green: Sink) -> Result<()> {
        let (blue, green) = (self.blue_scan(table, blue, true), self.green_scan(table, green));
        match (&table.by_id, table.key_name()) {
            (Some(key), Some(column)) => {
                futures::try_join!(blue.by_id(key, ids), green.by_id(column, ids))?;
            }
            _ => {
                futures::try_join!(blue.run(Share::Whole), green.everywhere())?;
            }
        }
        Ok(())
    }

    /// Reads these rows again and says what differs now.
    async fn look_again(
        &self,
        look: Look<'_>,
        suspects: &[Suspect],
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<()> {
        let Look { table, marker, rejected, seen } = look;
        let wanted: Arc<HashSet<Digest128>> = Arc::new(suspects.iter().map(|(key, _)| *key).collect());
        let rows = || Arc::new(Mutex::new(Rows::new()));
        let (on_blue, on_green) = (rows(), rows());
        let into = |rows: &Arc<Mutex<Rows>>| -> Sink {
            let (rows, table, marker, wanted) = (rows.clone(), table.clone(), marker.clone(), wanted.clone());
            Arc::new(move |row| {
                let (key, _) = marker.mark(&table, &row);
                if wanted.contains(&key) {
                    rows.lock().unwrap_or_else(PoisonError::into_inner).insert(key, row);
                }
                Ok(())
            })
        };
        let ids: Vec<Digest128> = suspects.iter().map(|(key, _)| *key).collect();
        self.read_again(table, &ids, into(&on_blue), into(&on_green)).await?;
        let (mut on_blue, mut on_green): (Rows, Rows) = (taken(&on_blue), taken(&on_green));
        for (key, was_on_blue) in suspects {
            let found = (on_blue.remove(key), on_green.remove(key));
            // Blue is in use: what came or went since the first look is counted as it is now.
            match (was_on_blue, found.0.is_some()) {
                (true, false) => counts.source -= 1,
                (false, true) => counts.source += 1,
                _ => {}
            }
            match found {
                (Some(blue), Some(green)) => self.both(table, &blue, &green, counts, findings)?,
                (Some(blue), None) => only_blue(table, &blue, rejected, counts, findings)?,
                (None, Some(green)) if is_left(table, &green, seen) || is_over(green.expiry) => {}
                (None, Some(green)) => {
                    counts.extra += 1;
                    findings.write(line(table, &green, What::Extra))?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn both(
        &self,
        table: &Table,
        blue: &Row,
        green: &Row,
        counts: &mut Counts,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut differs = false;
        for ((column, on_blue), on_green) in table.columns.iter().zip(&blue.values).zip(&green.values) {
            if on_blue.same(on_green) {
                continue;
            }
            differs = true;
            let mut finding = line(table, blue, self.kind(&column.name));
            finding.blue = findings.shown(&column.name, on_blue);
            finding.green = findings.shown(&column.name, on_green);
            finding.column = Some(column.name.clone());
            findings.write(finding)?;
        }
        if !same_expiry(blue.expiry, green.expiry) {
            differs = true;
            let shown = |expiry: Option<i64>| {
                expiry.map_or(Shown::Null, |ms| instant(ms.saturating_mul(1000)).into())
            };
            let mut finding = line(table, blue, What::WrongExpiry);
            finding.column.clone_from(&table.expiry);
            (finding.blue, finding.green) = (shown(blue.expiry), shown(green.expiry));
            findings.write(finding)?;
        }
        match (differs, blue.repaired) {
            (true, _) => counts.different += 1,
            (false, true) => counts.repaired += 1,
            (false, false) => counts.equal += 1,
        }
        Ok(())
    }

    fn kind(&self, column: &str) -> What {
        if self.workspace == Some(column) {
            What::WrongWorkspace
        } else if self.cache_key == Some(column) {
            What::WrongCacheKey
        } else {
            What::Different
        }
    }
}

/// No row may be in no class, or in two.
fn accounted_for(table: &str, counts: &Counts) -> Result<()> {
    if counts.add_up() {
        return Ok(());
    }
    Err(Error::new(Kind::Server, format!("the rows of \"{table}\" do not add up: {counts:?}"))
        .remedy("Run the command again; if it stays so, report it: this is a defect of kongferry."))
}

/// Counts what is alike and keeps the keys of the rest.
fn sift(
    blue: HashMap<Digest128, Mark>,
    mut green: HashMap<Digest128, Mark>,
    counts: &mut Counts,
    suspects: &mut Vec<Suspect>,
) {
    for (key, mark) in blue {
        match green.remove(&key) {
            Some(other) if other.digest == mark.digest && same_expiry(mark.expiry, other.expiry) => {
                if mark.repaired {
                    counts.repaired += 1;
                } else {
                    counts.equal += 1;
                }
            }
            _ => suspects.push((key, true)),
        }
    }
    suspects.extend(green.into_keys().map(|key| (key, false)));
}

/// Whether green's bootstrap made this row, and blue has none that would have taken its place.
fn is_left(table: &Table, row: &Row, seen: &HashSet<usize>) -> bool {
    table.bootstrap_row(row).is_some_and(|at| !seen.contains(&at))
}

fn only_blue(
    table: &Table,
    row: &Row,
    rejected: &HashSet<String>,
    counts: &mut Counts,
    findings: &mut Findings,
) -> Result<()> {
    if is_over(row.expiry) {
        counts.expired += 1;
    } else if rejected.contains(&spelled(&table.shown_key(row))) {
        // Matched by key: the journal keeps no more of a row than that.
        counts.rejected += 1;
    } else {
        counts.missing += 1;
        findings.write(line(table, row, What::Missing))?;
    }
    Ok(())
}

fn line(table: &Table, row: &Row, kind: What) -> Finding {
    Finding {
        table: table.name.clone(),
        key: table.shown_key(row),
        kind,
        column: None,
        blue: Shown::Null,
        green: Shown::Null,
        after_repair: false,
    }
}

fn same_expiry(blue: Option<i64>, green: Option<i64>) -> bool {
    match (blue, green) {
        (Some(blue), Some(green)) => blue.abs_diff(green) <= SAME_EXPIRY_MS.unsigned_abs(),
        (blue, green) => blue == green,
    }
}

/// Whether a row's time has run out, or does so now.
fn is_over(expiry: Option<i64>) -> bool {
    expiry.is_some_and(|at| at <= chrono::Utc::now().timestamp_millis().saturating_add(SAME_EXPIRY_MS))
}

/// One spelling for a key, however the members of an object are ordered and an instant is written.
pub fn spelled(key: &Shown) -> String {
    match key {
        Shown::Object(members) => {
            let sorted: std::collections::BTreeMap<_, _> =
                members.iter().map(|(name, part)| (name, normal(part))).collect();
            serde_json::to_string(&sorted).unwrap_or_default()
        }
        other => normal(other).to_string(),
    }
}

fn normal(part: &Shown) -> Shown {
    // Our own spelling and PostgreSQL's differ in the zone and in the digits behind the second.
    let instant_of = |text: &str| {
        let at = chrono::DateTime::parse_from_rfc3339(text).ok()?;
        Some(instant(at.timestamp_micros()))
    };
    match part.as_str().and_then(instant_of) {
        Some(same) => same.into(),
        None => part.clone(),
    }
}

fn taken<T: Default>(shared: &Mutex<T>) -> T {
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_is_one_key_however_it_is_written() {
        let ours = json!({ "identifier": "a", "period_date": "2023-11-14T22:13:20.000Z" });
        let theirs = json!({ "period_date": "2023-11-14T22:13:20+00:00", "identifier": "a" });
        assert_eq!(spelled(&ours), spelled(&theirs));
        assert_ne!(spelled(&json!("a")), spelled(&json!("b")));
    }
}
