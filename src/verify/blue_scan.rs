//! Reads blue by the reading rules: whole tables by token range in parallel, a sample of the ranges, or single rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use scylla::value::CqlValue;
use uuid::Uuid;

use super::kong_row::{BlueRow, KongRow};
use super::options::Coverage;
use super::reading_rules::{BlueKeyColumn, ReadingRules};
use super::row_digests::RowKey;
use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::{Error, Kind, Result};
use crate::progress::Observer;

/// Single rows that are read at the same time.
const LOOK_UPS: usize = 32;

/// Parts of the ring, of which a sample reads some.
const SAMPLE_PARTS: usize = 400;

pub(super) type RowSink = Arc<dyn Fn(KongRow) -> Result<()> + Send + Sync>;

pub(super) struct BlueScan {
    pub(super) blue: Arc<Blue>,
    pub(super) table: Arc<ReadingRules>,
    pub(super) sink: RowSink,
    pub(super) observer: Arc<dyn Observer>,
    /// Parts that are read at the same time.
    pub(super) parallel: usize,
    /// Whether rows of every workspace are read, even where the comparison is restricted to one.
    pub(super) all_workspaces: bool,
}

#[derive(Debug, Default)]
struct ScanCounts {
    /// Rows that Kong does not read: of other partitions, of deleted workspaces.
    not_read: AtomicU64,
    /// Parts that are read to their end.
    parts: AtomicUsize,
}

impl BlueScan {
    /// Reads the table and returns the number of rows that Kong does not read.
    pub(super) async fn run(self, coverage: Coverage) -> Result<u64> {
        let scan = Arc::new(self);
        let select = scan.select();
        let reader = Arc::new(scan.blue.reader(&scan.table.name, &select, &scan.table.partition_key).await?);
        let counts = Arc::new(ScanCounts::default());
        let first =
            scan.blue.page(&reader, TokenRange::WHOLE, PagingState::start(), Page::first_rows()).await?;
        if first.next.is_none() {
            scan.page(&first, &counts)?;
            return Ok(counts.not_read.load(Ordering::Relaxed));
        }
        let ranges = match &scan.table.one_partition {
            Some(partition) => scan.blue.slices(&scan.table.name, &select, &reader, partition).await?,
            None => scan.ranges(coverage).into_iter().map(|range| (reader.clone(), range)).collect(),
        };
        let part_count = ranges.len();
        let parts = ranges.into_iter().map(|(reader, range)| {
            let (scan, counts) = (scan.clone(), counts.clone());
            spawn_task(async move { scan.part(&reader, range, &counts, part_count).await })
        });
        futures::stream::iter(parts).buffer_unordered(scan.parallel).try_collect::<Vec<()>>().await?;
        Ok(counts.not_read.load(Ordering::Relaxed))
    }

    /// Reads the rows with these ids, as far as they exist.
    pub(super) async fn by_id(self, key: &[BlueKeyColumn], ids: &[RowKey]) -> Result<()> {
        let scan = Arc::new(self);
        let names: Vec<String> = key.iter().map(|cell| cell.name().to_owned()).collect();
        let reader = Arc::new(scan.blue.row_reader(&scan.table.name, &scan.select(), &names).await?);
        let read_row = |id: &RowKey| {
            let (scan, reader) = (scan.clone(), reader.clone());
            let values: Vec<CqlValue> = key.iter().map(|cell| cell.value(*id)).collect();
            async move { scan.page(&scan.blue.row(&reader, &values).await?, &ScanCounts::default()) }
        };
        let rows: Vec<_> = ids.iter().map(read_row).collect();
        futures::stream::iter(rows).buffer_unordered(LOOK_UPS).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    fn ranges(&self, coverage: Coverage) -> Vec<TokenRange> {
        match coverage {
            Coverage::Sample(percent) if self.table.by_id.is_some() => {
                let parts = Vec::from(self.blue.ranges(SAMPLE_PARTS));
                let count = (parts.len() as f64 * percent / 100.0).ceil().max(1.0);
                let step = parts.len() as f64 / count;
                // A random start, so that a second sample reads other rows.
                let start = random_fraction() * step;
                let place = |number: usize| (start + number as f64 * step) as usize;
                (0..count as usize).filter_map(|number| parts.get(place(number)).copied()).collect()
            }
            _ => self.blue.ranges(self.parallel * 8).into(),
        }
    }

    fn select(&self) -> String {
        let columns = self.table.cells.iter().map(|name| quote(name));
        let ttls = self.table.ttls.iter().map(|name| format!("ttl({})", quote(name)));
        let now = std::iter::once("toTimestamp(now())".to_owned());
        columns.chain(ttls).chain(now).collect::<Vec<_>>().join(", ")
    }

    /// Reads a part to its end; while one page is decoded, the next one is fetched.
    async fn part(
        self: &Arc<Self>,
        reader: &Arc<TableReader>,
        range: TokenRange,
        counts: &ScanCounts,
        part_count: usize,
    ) -> Result<()> {
        let mut page = self.blue.page(reader, range, PagingState::start(), Page::first_rows()).await?;
        while let Some(from) = page.next.clone() {
            let (blue, reader, rows) = (self.blue.clone(), reader.clone(), page.next_rows());
            let next = spawn_task(async move { blue.page(&reader, range, from, rows).await });
            let (next, decoded) = futures::join!(next, async { self.page(&page, counts) });
            decoded?;
            page = next?;
        }
        self.page(&page, counts)?;
        let done = counts.parts.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.set_parts(&self.table.name, done, part_count);
        Ok(())
    }

    fn page(&self, page: &Page, counts: &ScanCounts) -> Result<()> {
        let mut result = Ok(());
        let read = page.for_each(|cells| {
            let row = if self.all_workspaces {
                self.table.read_blue(cells)
            } else {
                self.table.read_blue_in_workspaces(cells)
            };
            match row {
                BlueRow::Read(row) if result.is_ok() => result = (self.sink)(row),
                BlueRow::Read(_) | BlueRow::OtherWorkspace => {}
                BlueRow::NotRead => {
                    counts.not_read.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        read.map_err(|e| self.blue.explain(e, &format!("cannot read the table \"{}\"", self.table.name)))?;
        self.observer.add_rows(&self.table.name, page.len() as u64);
        result
    }
}

impl BlueKeyColumn {
    fn name(&self) -> &str {
        match self {
            BlueKeyColumn::Id(name) | BlueKeyColumn::Constant(name, _) => name,
        }
    }

    fn value(&self, id: RowKey) -> CqlValue {
        match self {
            BlueKeyColumn::Id(_) => CqlValue::Uuid(Uuid::from_bytes(id)),
            BlueKeyColumn::Constant(_, value) => CqlValue::Text(value.clone()),
        }
    }
}

/// From 0 up to, and without, 1.
fn random_fraction() -> f64 {
    let (first, ..) = Uuid::new_v4().as_fields();
    f64::from(first) / (f64::from(u32::MAX) + 1.0)
}

/// Runs on a task of its own, so that all cores decode; the task ends when its future is dropped.
pub(super) async fn spawn_task<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    let ended = match tasks.join_next().await {
        Some(Ok(result)) => return result,
        Some(Err(error)) => Some(error),
        None => None,
    };
    let mut error = Error::new(Kind::Server, "a task of the comparison ended unexpectedly");
    if let Some(source) = ended {
        error = error.source(source);
    }
    Err(error)
}
