//! Reads every table of the plan and converts it page by page, in parallel by token range.
//!
//! While one page is converted and copied, the next one is being read. The first page of a table is small and shows how
//! long its rows are; if a second, full page is not the last one either, the table is split into token ranges, or its
//! only partition into slices. An incremental run reads blue in the same way, first for fingerprints, then for the rows
//! that differ from the ledger.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;

use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::{Error, Result};
use crate::green::stage::{Refused, RejectedRow, RowBuffer, Stage};
use crate::inspect::Inspection;
use crate::mapping::digest::Digest128;
use crate::mapping::reason::Reason;
use crate::mapping::row_json;
use crate::mapping::table_plan::{Cell, KeyspacePlan, TablePlan};
use crate::mapping::transcode::RowContext;
use crate::progress::Observer;

use super::batch::{ConvertedPage, ConvertedRows, CopyBatch};
use super::convert::{ConvertError, PageConverter};
use super::destination::Destination;
use super::loaded::LoadedTable;
use super::row_filter::RowFilter;

/// Reads and converts the tables of a plan; shared by all tasks.
pub struct Loader {
    blue: Arc<Blue>,
    pub destination: Destination,
    plan: KeyspacePlan,
    row_context: RowContext,
    observer: Arc<dyn Observer>,
    /// Table by table in the plan's order; empty for all rows of all tables.
    filters: Vec<RowFilter>,
    /// Buffers of finished pages, used again.
    buffers: Mutex<Vec<ConvertedRows>>,
}

static ALL_ROWS: RowFilter = RowFilter::All;

/// A token range of a table that one task reads.
struct ScanTask {
    table: usize,
    reader: Arc<TableReader>,
    range: TokenRange,
    rows: i32,
    progress: Arc<ScanProgress>,
}

/// Finished ranges of a table, and its converted pages that wait for a COPY.
struct ScanProgress {
    done: AtomicUsize,
    total: usize,
    batch: Mutex<CopyBatch>,
}

impl Loader {
    /// For all rows of all tables.
    pub fn new(
        blue: &Arc<Blue>,
        inspection: &Inspection,
        destination: Destination,
        observer: &Arc<dyn Observer>,
    ) -> Loader {
        Loader {
            blue: blue.clone(),
            destination,
            plan: inspection.plan.clone(),
            row_context: RowContext {
                workspaces: inspection.blue.workspaces.iter().map(|(id, _)| *id).collect(),
                named_rows: inspection.blue.named_rows.clone(),
                now_ms: chrono::Utc::now().timestamp_millis(),
            },
            observer: observer.clone(),
            filters: Vec::new(),
            buffers: Mutex::default(),
        }
    }

    /// For the rows that these filters select, table by table in the plan's order.
    #[must_use]
    pub fn with_filters(self, filters: Vec<RowFilter>) -> Loader {
        Loader { filters, ..self }
    }

    /// Loads all tables; the result is in the plan's order.
    pub async fn run(self: Arc<Self>) -> Result<Vec<LoadedTable>> {
        let mut loaded = vec![LoadedTable::default(); self.plan.moved.len()];
        let mut tasks = Vec::new();
        let firsts = futures::stream::iter(0..self.plan.moved.len())
            .map(|table| spawned(self.clone().first_page(table)))
            .buffer_unordered(self.blue.parallel());
        let mut firsts = Box::pin(firsts);
        while let Some(first) = firsts.try_next().await? {
            match first {
                FirstPage::Complete(table, counts) => self.add(&mut loaded, table, counts),
                FirstPage::Split(more) => tasks.extend(more),
            }
        }
        // The ranges of all tables together: a slow replica of one table does not delay the others.
        let mut rest = Box::pin(
            futures::stream::iter(tasks)
                .map(|task| spawned(self.clone().scan(task)))
                .buffer_unordered(self.blue.parallel()),
        );
        while let Some((table, counts)) = rest.try_next().await? {
            self.add(&mut loaded, table, counts);
        }
        Ok(loaded)
    }

    fn add(&self, loaded: &mut [LoadedTable], table: usize, counts: LoadedTable) {
        if let Some(sum) = loaded.get_mut(table) {
            sum.add(counts);
        }
    }

    fn table(&self, at: usize) -> Result<&TablePlan> {
        self.plan
            .moved
            .get(at)
            .ok_or_else(|| Error::new(crate::error::Kind::Server, "a table is missing from the plan"))
    }

    fn filter(&self, at: usize) -> &RowFilter {
        self.filters.get(at).unwrap_or(&ALL_ROWS)
    }

    async fn first_page(self: Arc<Self>, at: usize) -> Result<FirstPage> {
        let plan = self.table(at)?;
        if self.filter(at).is_empty() {
            self.observer.table_done(&plan.table);
            return Ok(FirstPage::Complete(at, LoadedTable::default()));
        }
        let select = select(plan);
        let reader = Arc::new(self.blue.reader(&plan.table, &select, &plan.partition_key).await?);
        if let Some(tokens) = self.filter(at).single_tokens() {
            let single = |token: &i64| TokenRange { after: token.saturating_sub(1), up_to: *token };
            let ranges = in_ranges(&reader, tokens.iter().map(single));
            return Ok(FirstPage::Split(scan_tasks(at, Page::first_rows(), ranges)));
        }
        let whole = |rows| self.blue.page(&reader, TokenRange::WHOLE, PagingState::start(), rows);
        let mut page = whole(Page::first_rows()).await?;
        let rows = page.next_rows();
        if page.next.is_some() && rows > Page::first_rows() {
            page = whole(rows).await?;
        }
        if page.next.is_none() {
            let batch = Mutex::default();
            let mut counts = self.convert_page(at, plan, page, &batch).await?;
            counts.add(self.copy_rest(plan, &batch).await?);
            self.observer.table_done(&plan.table);
            return Ok(FirstPage::Complete(at, counts));
        }
        let ranges = match &plan.one_partition {
            Some(partition) => self.blue.slices(&plan.table, &select, &reader, partition).await?,
            None => in_ranges(&reader, self.blue.ranges(self.blue.parallel() * 8)),
        };
        Ok(FirstPage::Split(scan_tasks(at, rows, ranges)))
    }

    async fn scan(self: Arc<Self>, task: ScanTask) -> Result<(usize, LoadedTable)> {
        let plan = self.table(task.table)?;
        let mut counts = LoadedTable::default();
        let mut page = self.blue.page(&task.reader, task.range, PagingState::start(), task.rows).await?;
        loop {
            let rows = page.next_rows();
            let coming = page.next.clone().map(|from| {
                let (loader, reader, range) = (self.clone(), task.reader.clone(), task.range);
                let next = async move { loader.blue.page(&reader, range, from, rows).await };
                AbortOnDrop(tokio::spawn(next))
            });
            counts.add(self.convert_page(task.table, plan, page, &task.progress.batch).await?);
            match coming {
                Some(next) => page = joined_task(next).await?,
                None => break,
            }
        }
        let done = task.progress.done.fetch_add(1, Ordering::AcqRel) + 1;
        self.observer.set_parts(&plan.table, done, task.progress.total);
        if done == task.progress.total {
            counts.add(self.copy_rest(plan, &task.progress.batch).await?);
            self.observer.table_done(&plan.table);
        }
        Ok((task.table, counts))
    }

    /// Converts one page. Into the stage it is copied together with others.
    async fn convert_page(
        &self,
        at: usize,
        plan: &TablePlan,
        page: Page,
        batch: &Mutex<CopyBatch>,
    ) -> Result<LoadedTable> {
        let mut converted = locked(&self.buffers).pop().unwrap_or_default();
        self.convert(at, plan, &page, &mut converted)?;
        match &self.destination {
            Destination::Stage(stage) => {
                let full = locked(batch).add(page, converted);
                return match full {
                    Some(pages) => self.copy(stage, plan, pages).await,
                    None => Ok(LoadedTable::default()),
                };
            }
            Destination::Discard(results) => locked(results).add(&plan.table, &mut converted),
            Destination::Fingerprints(stage, spill_files) => {
                if let Some(stage) = stage {
                    stage.record(&plan.table, &converted.rejects, &[]).await?;
                }
                if let Some(spill) = spill_files.get(at) {
                    let mut spill = locked(spill);
                    converted.fingerprints.iter().try_for_each(|row| spill.push(row))?;
                }
                crate::failpoints::reached("marking").await;
            }
        }
        self.observer.add_rows(&plan.table, page.len() as u64);
        Ok(self.recycle(converted))
    }

    async fn copy_rest(&self, plan: &TablePlan, batch: &Mutex<CopyBatch>) -> Result<LoadedTable> {
        let pages = locked(batch).take();
        match &self.destination {
            Destination::Stage(stage) if !pages.is_empty() => self.copy(stage, plan, pages).await,
            _ => Ok(LoadedTable::default()),
        }
    }

    /// Copies pages into the stage, and records their rejects and repairs.
    async fn copy(
        &self,
        stage: &Stage,
        plan: &TablePlan,
        mut pages: Vec<ConvertedPage>,
    ) -> Result<LoadedTable> {
        let buffers: Vec<&RowBuffer> = pages.iter().map(|(_, converted)| &converted.buffer).collect();
        let refused = stage.copy(plan, &buffers).await?;
        for ((page, converted), refused) in pages.iter_mut().zip(&refused) {
            self.settle(plan, page, converted, refused)?;
            stage.record(&plan.table, &converted.rejects, &converted.repairs).await?;
        }
        crate::failpoints::reached("loading").await;
        let mut counts = LoadedTable::default();
        for (page, converted) in pages {
            self.observer.add_rows(&plan.table, page.len() as u64);
            counts.add(self.recycle(converted));
        }
        Ok(counts)
    }

    /// Rejects the rows of a page that PostgreSQL refused, and notes which of the filter's keys are in the stage.
    fn settle(
        &self,
        plan: &TablePlan,
        page: &Page,
        converted: &mut ConvertedRows,
        refused: &[Refused],
    ) -> Result<()> {
        converted.counts.staged -= refused.len() as u64;
        if !refused.is_empty() {
            let mut rejects = self.read_refused(plan, page, &converted.page_rows, refused)?;
            for (reject, refused) in rejects.iter_mut().zip(refused) {
                reject.digest =
                    converted.buffer.last_field(refused.row, size_of::<Digest128>()).map(<[u8]>::to_vec);
            }
            converted.rejects.append(&mut rejects);
        }
        let refused: HashSet<usize> = refused.iter().map(|refused| refused.row).collect();
        for (row, key) in converted.keys.drain(..).enumerate() {
            let counts = &mut converted.counts;
            let is_refused = refused.contains(&row);
            let keys = if is_refused { &mut counts.rejected_keys } else { &mut counts.staged_keys };
            keys.insert(key);
        }
        Ok(())
    }

    /// Returns a page's buffers to the pool, and its counts.
    fn recycle(&self, mut converted: ConvertedRows) -> LoadedTable {
        let counts = std::mem::take(&mut converted.counts);
        locked(&self.buffers).push(converted);
        counts
    }

    fn convert(&self, at: usize, plan: &TablePlan, page: &Page, converted: &mut ConvertedRows) -> Result<()> {
        let converter = PageConverter {
            plan,
            context: &self.row_context,
            filter: self.filter(at),
            fingerprints_only: matches!(self.destination, Destination::Fingerprints(..)),
        };
        converter.convert(page, converted).map_err(|error| match error {
            ConvertError::Unreadable(failure) => self.blue.unreadable(&plan.table, failure),
            ConvertError::UnknownColumn(cell, key) => unknown_column(plan, cell, &key),
            ConvertError::NotARow => not_a_row(plan),
        })
    }

    /// The rows of a page that PostgreSQL refused, as rejects.
    fn read_refused(
        &self,
        plan: &TablePlan,
        page: &Page,
        page_rows: &[usize],
        refused: &[Refused],
    ) -> Result<Vec<RejectedRow>> {
        let mut rejects = Vec::with_capacity(refused.len());
        let by_row = |refused: &'_ Refused| Some((*page_rows.get(refused.row)?, refused.sqlstate.clone()));
        let states: BTreeMap<usize, String> = refused.iter().filter_map(by_row).collect();
        let mut row = 0;
        let read = page.for_each(|cells| {
            if let Some(state) = states.get(&row) {
                rejects.push(RejectedRow {
                    key: row_json::key(plan, cells),
                    column: None,
                    reason: Reason::RefusedByPostgres.code(),
                    detail: Some(format!("SQLSTATE {state}")),
                    row: row_json::row(plan, cells),
                    digest: None,
                });
            }
            row += 1;
        });
        read.map_err(|failure| self.blue.unreadable(&plan.table, failure))?;
        Ok(rejects)
    }
}

enum FirstPage {
    Complete(usize, LoadedTable),
    Split(Vec<ScanTask>),
}

/// The ranges of a table, all read by one prepared statement.
fn in_ranges(
    reader: &Arc<TableReader>,
    ranges: impl IntoIterator<Item = TokenRange>,
) -> Vec<(Arc<TableReader>, TokenRange)> {
    ranges.into_iter().map(|range| (reader.clone(), range)).collect()
}

fn scan_tasks(table: usize, rows: i32, ranges: Vec<(Arc<TableReader>, TokenRange)>) -> Vec<ScanTask> {
    let progress =
        Arc::new(ScanProgress { done: AtomicUsize::new(0), total: ranges.len(), batch: Mutex::default() });
    ranges
        .into_iter()
        .map(|(reader, range)| ScanTask { table, reader, range, rows, progress: progress.clone() })
        .collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The expressions that are read of each row, in the order of the plan's cells.
fn select(plan: &TablePlan) -> String {
    let expression = |cell: &Cell| match cell {
        Cell::Value(name, _) => quote(name),
        Cell::TimeToLive(name) => format!("ttl({})", quote(name)),
        // The coordinator's clock, read with the row: expiry is computed from it.
        Cell::ReadTime => "toTimestamp(now())".to_owned(),
    };
    plan.cells.iter().map(expression).collect::<Vec<_>>().join(", ")
}

fn unknown_column(plan: &TablePlan, cell: usize, key: &serde_json::Value) -> Error {
    let column = plan.cell_name(cell).unwrap_or("?");
    Error::refused(format!("blue's column {}.{column} holds values, and green has no such column", plan.table))
        .detail(format!("The first row found is {key}."))
        .remedy(format!(
            "If these values may be lost, pass a schema map that drops the column with --schema-map: {{\"format\": 1, \"tables\": {{\"{}\": {{\"columns\": {{\"{column}\": {{\"drop\": \"why\"}}}}}}}}}}",
            plan.table
        ))
}

fn not_a_row(plan: &TablePlan) -> Error {
    Error::new(crate::error::Kind::Server, format!("a row of \"{}\" was encoded incompletely", plan.table))
        .remedy("This is a defect of kongferry: report it. Green is unchanged.")
}

/// Runs on a task of its own, so that conversion uses all cores.
async fn spawned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let task = AbortOnDrop(tokio::spawn(work));
    joined_task(task).await
}

/// A task that is aborted with its handle: an interrupted run must not continue in the background.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn joined_task<T>(mut task: AbortOnDrop<Result<T>>) -> Result<T> {
    match (&mut task.0).await {
        Ok(result) => result,
        Err(error) => {
            Err(Error::new(crate::error::Kind::Server, "a task of the run ended unexpectedly").source(error))
        }
    }
}
