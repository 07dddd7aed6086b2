//! Both sides, read whole: blue by token range in parallel, green as one stream of one snapshot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use sqlx::{Row as _, ValueRef};

use super::rules::{Row, Table};
use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::{Error, Kind, Result};
use crate::green::session::Green;
use crate::green::sql::fill;
use crate::green::statement::query;
use crate::progress::Observer;

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
}

/// How many rows of which sort were read.
#[derive(Debug, Default)]
struct Tally {
    foreign: AtomicU64,
    parts: AtomicUsize,
}

impl BlueScan {
    /// Reads the table; says how many rows are of a partition that Kong does not read.
    pub async fn run(self) -> Result<u64> {
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
        // All rows of a partition have one token: such a table can only be paged through.
        let single = scan.table.is_one_partition();
        let ranges = if single { [TokenRange::WHOLE].into() } else { scan.blue.ranges(scan.parallel * 8) };
        let of = ranges.len();
        let parts = ranges.into_iter().map(|range| {
            let (scan, reader, tally) = (scan.clone(), reader.clone(), tally.clone());
            spawned(async move { scan.part(&reader, range, &tally, of).await })
        });
        futures::stream::iter(parts).buffer_unordered(scan.parallel).try_collect::<Vec<()>>().await?;
        Ok(tally.foreign.load(Ordering::Relaxed))
    }

    fn select(&self) -> String {
        let columns = self.table.cells.iter().map(|name| quote(name));
        let ttls = self.table.ttls.iter().map(|name| format!("ttl({})", quote(name)));
        let now = std::iter::once("toTimestamp(now())".to_owned());
        columns.chain(ttls).chain(now).collect::<Vec<_>>().join(", ")
    }

    async fn part(&self, reader: &TableReader, range: TokenRange, tally: &Tally, of: usize) -> Result<()> {
        let mut next = Some((PagingState::start(), Page::first_rows()));
        while let Some((from, rows)) = next.take() {
            let page = self.blue.page(reader, range, from, rows).await?;
            self.page(&page, tally)?;
            next = page.next.clone().map(|from| (from, page.next_rows()));
        }
        let done = tally.parts.fetch_add(1, Ordering::Relaxed) + 1;
        self.observer.parts(&self.table.name, done, of);
        Ok(())
    }

    fn page(&self, page: &Page, tally: &Tally) -> Result<()> {
        let mut result = Ok(());
        let read = page.for_each(|cells| match self.table.of_blue(cells) {
            Some(row) if result.is_ok() => result = (self.sink)(row),
            Some(_) => {}
            None => {
                tally.foreign.fetch_add(1, Ordering::Relaxed);
            }
        });
        read.map_err(|e| self.blue.explain(e, &format!("cannot read the table \"{}\"", self.table.name)))?;
        self.observer.rows(&self.table.name, page.len() as u64);
        result
    }
}

/// Reads one table of green: what Kong would see, so no rows whose time has run out.
pub async fn green(green: &Green, table: &Table, sink: &Sink) -> Result<()> {
    let what = format!("cannot read green's table \"{}\"", table.name);
    let mut columns: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
    columns.extend(table.expiry.as_deref().map(quote));
    let alive = table
        .expiry
        .as_deref()
        .map_or_else(|| "true".to_owned(), |expiry| format!("{0} is null or {0} >= now()", quote(expiry)));
    let sql = fill(
        "select {columns} from {table} where {alive}",
        &[("columns", &columns.join(", ")), ("table", &quote(&table.name)), ("alive", &alive)],
    );
    let mut tx = green.begin_snapshot().await?;
    let mut rows = query(sql).fetch(&mut *tx);
    while let Some(row) = rows.try_next().await.map_err(|e| green.explain(e, &what))? {
        let mut fields: Vec<Option<&[u8]>> = Vec::with_capacity(row.len());
        for at in 0..row.len() {
            let field = row.try_get_raw(at).map_err(|e| green.explain(e, &what))?;
            fields.push(if field.is_null() { None } else { field.as_bytes().ok() });
        }
        sink(table.of_green(&fields))?;
    }
    drop(rows);
    tx.rollback().await.map_err(|e| green.explain(e, &what))
}

/// Runs on a task of its own, so that all cores decode; the task ends when nobody waits for it any more.
async fn spawned(work: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(work);
    match tasks.join_next().await {
        Some(Ok(result)) => result,
        Some(Err(error)) => {
            Err(Error::new(Kind::Server, "a part of the comparison ended unexpectedly").source(error))
        }
        None => Ok(()),
    }
}
