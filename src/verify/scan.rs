//! Blue, read by our own rules: whole tables by token range in parallel, a sample of the ranges, or single rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use scylla::value::CqlValue;
use uuid::Uuid;

use super::Share;
use super::rules::{KeyCell, OnBlue, Row, Table};
use super::spool::Digest128;
use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::{Error, Kind, Result};
use crate::progress::Observer;

/// Rows that are asked for one by one, at the same time.
const LOOK_UPS: usize = 32;

/// Parts of the ring of which a sample takes some.
const SAMPLE_PARTS: usize = 400;

/// What is done with each row.
pub type Sink = Arc<dyn Fn(Row) -> Result<()> + Send + Sync>;

/// Reads one table of blue.
pub struct BlueScan {
    /// Where from.
    pub blue: Arc<Blue>,
    /// By which rules.
    pub table: Arc<Table>,
    /// Where to.
    pub sink: Sink,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Parts that are read at the same time.
    pub parallel: usize,
    /// Whether rows of every workspace are taken, whatever the comparison is about.
    pub everywhere: bool,
}

/// How many rows of which sort were read.
#[derive(Debug, Default)]
struct Tally {
    foreign: AtomicU64,
    parts: AtomicUsize,
}

impl BlueScan {
    /// Reads the table; says how many rows are of a partition that Kong does not read.
    pub async fn run(self, share: Share) -> Result<u64> {
        let scan = Arc::new(self);
        let select = scan.select();
        let reader = Arc::new(scan.blue.reader(&scan.table.name, &select, &scan.table.partition_key).await?);
        let tally = Arc::new(Tally::default());
        let first =
            scan.blue.page(&reader, TokenRange::WHOLE, PagingState::start(), Page::first_rows()).await?;
        if first.next.is_none() {
            scan.page(&first, &tally)?;
            return Ok(tally.foreign.load(Ordering::Relaxed));
        }
        let cut = match &scan.table.one_partition {
            Some(one) => scan.blue.slices(&scan.table.name, &select, &reader, one).await?,
            None => scan.ranges(share).into_iter().map(|range| (reader.clone(), range)).collect(),
        };
        let of = cut.len();
        let parts = cut.into_iter().map(|(reader, range)| {
            let (scan, tally) = (scan.clone(), tally.clone());
            spawned(async move { scan.part(&reader, range, &tally, of).await })
        });
        futures::stream::iter(parts).buffer_unordered(scan.parallel).try_collect::<Vec<()>>().await?;
        Ok(tally.foreign.load(Ordering::Relaxed))
    }

    /// Reads the rows with these ids; those that are not there any more are left out.
    pub async fn by_id(self, key: &[KeyCell], ids: &[Digest128]) -> Result<()> {
        let scan = Arc::new(self);
        let names: Vec<String> = key.iter().map(|cell| cell.name().to_owned()).collect();
        let reader = Arc::new(scan.blue.row_reader(&scan.table.name, &scan.select(), &names).await?);
        let one = |id: &Digest128| {
            let (scan, reader) = (scan.clone(), reader.clone());
            let values: Vec<CqlValue> = key.iter().map(|cell| cell.value(*id)).collect();
            async move { scan.page(&scan.blue.row(&reader, &values).await?, &Tally::default()) }
        };
        let rows: Vec<_> = ids.iter().map(one).collect();
        futures::stream::iter(rows).buffer_unordered(LOOK_UPS).try_collect::<Vec<()>>().await?;
        Ok(())
    }

    fn ranges(&self, share: Share) -> Vec<TokenRange> {
        match share {
            Share::Sample(percent) if self.table.by_id.is_some() => {
                let parts = Vec::from(self.blue.ranges(SAMPLE_PARTS));
                let wanted = (parts.len() as f64 * percent / 100.0).ceil().max(1.0);
                let step = parts.len() as f64 / wanted;
                // Another start in each call: a second sample looks at other rows.
                let start = chance() * step;
                let at = |n: usize| (start + n as f64 * step) as usize;
                (0..wanted as usize).filter_map(|n| parts.get(at(n)).copied()).collect()
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

    /// Reads a part from end to end; while one page is decoded the next one is on its way.
    async fn part(
        self: &Arc<Self>,
        reader: &Arc<TableReader>,
        range: TokenRange,
        tally: &Tally,
        of: usize,
    ) -> Result<()> {
        let mut page = self.blue.page(reader, range, PagingState::start(), Page::first_rows()).await?;
        while let Some(from) = page.next.clone() {
            let (blue, reader, rows) = (self.blue.clone(), reader.clone(), page.next_rows());
            let next = spawned(async move { blue.page(&reader, range, from, rows).await });
            let (next, seen) = futures::join!(next, async { self.page(&page, tally) });
            seen?;
            page = next?;
        }
        self.page(&page, tally)?;
        let done = tally.parts.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.parts(&self.table.name, done, of);
        Ok(())
    }

    fn page(&self, page: &Page, tally: &Tally) -> Result<()> {
        let mut result = Ok(());
        let read = page.for_each(|cells| {
            let row = if self.everywhere {
                self.table.any_of_blue(cells).map_or(OnBlue::Foreign, OnBlue::Read)
            } else {
                self.table.of_blue(cells)
            };
            match row {
                OnBlue::Read(row) if result.is_ok() => result = (self.sink)(row),
                OnBlue::Read(_) | OnBlue::Outside => {}
                OnBlue::Foreign => {
                    tally.foreign.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        read.map_err(|e| self.blue.explain(e, &format!("cannot read the table \"{}\"", self.table.name)))?;
        self.observer.rows(&self.table.name, page.len() as u64);
        result
    }
}

impl KeyCell {
    fn name(&self) -> &str {
        match self {
            KeyCell::Id(name) | KeyCell::Fixed(name, _) => name,
        }
    }

    fn value(&self, id: Digest128) -> CqlValue {
        match self {
            KeyCell::Id(_) => CqlValue::Uuid(Uuid::from_bytes(id)),
            KeyCell::Fixed(_, value) => CqlValue::Text(value.clone()),
        }
    }
}

/// A number from 0 up to 1, another one in each call.
fn chance() -> f64 {
    f64::from(u32::from_be_bytes(first_four(Uuid::new_v4().as_bytes()))) / (f64::from(u32::MAX) + 1.0)
}

fn first_four(bytes: &[u8; 16]) -> [u8; 4] {
    let [a, b, c, d, ..] = *bytes;
    [a, b, c, d]
}

/// Runs on a task of its own, so that all cores decode; the task ends when nobody waits for it any more.
pub async fn spawned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    let ended = match tasks.join_next().await {
        Some(Ok(result)) => return result,
        Some(Err(error)) => Some(error),
        None => None,
    };
    let mut error = Error::new(Kind::Server, "a part of the comparison ended unexpectedly");
    if let Some(source) = ended {
        error = error.source(source);
    }
    Err(error)
}
