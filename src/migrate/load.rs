//! Fills the stage: every table of the plan, scanned by token range in parallel, converted page by page, copied.
//!
//! While one page is converted and copied the next one is on its way. A table's first page is small and measures how
//! long its rows are; when a second, full one is not the last either, the table is cut into ranges, or its one partition
//! into slices. An incremental run goes over blue in the same way, first to mark what differs from the ledger, then for
//! those rows.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;

use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::{Error, Result};
use crate::green::stage::{Refused, RejectedRow, RowBuffer, Stage};
use crate::mapping::digest::Digest128;
use crate::mapping::reason::{Note, Reason};
use crate::mapping::row_json;
use crate::mapping::table_plan::{Cell, KeyspacePlan, TablePlan};
use crate::mapping::transcode::RowContext;
use crate::progress::Observer;
use crate::spill::SpillFile;

use super::batch::{Batch, Converted, Kept};
use super::convert::{Converting, Stop};
use super::fingerprints::Fingerprint;

/// Keys shown as examples of one note.
pub(super) const EXAMPLES: usize = 100;

/// A table with fewer rows is read whole rather than row by row.
const SMALL: u64 = 2_000;

/// Of one row in so many it pays to ask for it alone.
const ONE_IN: u64 = 50;

/// What was read of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Rows of blue.
    pub source: u64,
    /// Rows in the stage.
    pub staged: u64,
    /// Rows of a partition that Kong does not read.
    pub other_partition: u64,
    /// Rows that stand on green as an earlier run wrote them; they are not staged.
    pub unchanged: u64,
    /// Those of them with a value mended.
    pub unchanged_repaired: u64,
    /// Rows of a table written by traffic that green has changed itself.
    pub greens_own: u64,
    /// Where only some rows were wanted, the keys of those that were staged.
    pub kept: HashSet<Digest128>,
    /// And of those that were set aside.
    pub aside: HashSet<Digest128>,
    /// Column and kind of what was seen: how often, and some keys.
    pub notes: BTreeMap<(String, Note), (u64, Vec<String>)>,
}

impl Loaded {
    fn add(&mut self, other: Loaded) {
        self.source += other.source;
        self.staged += other.staged;
        self.other_partition += other.other_partition;
        self.unchanged += other.unchanged;
        self.unchanged_repaired += other.unchanged_repaired;
        self.greens_own += other.greens_own;
        self.kept.extend(other.kept);
        self.aside.extend(other.aside);
        for (what, (count, keys)) in other.notes {
            let own = self.notes.entry(what).or_default();
            own.0 += count;
            own.1.extend(keys);
            own.1.truncate(EXAMPLES);
        }
    }
}

/// Where converted rows go.
pub enum Target {
    /// Into green's staging tables.
    Stage(Box<Stage>),
    /// Nowhere: `plan --quick` only wants to know which rows cannot be converted.
    Nowhere(Mutex<Tally>),
    /// Not at all: of each row a mark is kept, table by table; rows set aside go to the stage where there is one.
    Marks(Option<Box<Stage>>, Vec<Mutex<SpillFile<Fingerprint>>>),
}

/// Which rows of a table are staged.
#[derive(Debug, Default)]
pub enum Wanted {
    /// All.
    #[default]
    All,
    /// Those with these keys, out of so many.
    Only {
        /// Their keys.
        keys: Arc<HashSet<Digest128>>,
        /// Where they are on the ring.
        tokens: HashSet<i64>,
        /// Rows of the table.
        of: u64,
    },
}

impl Wanted {
    /// The places on the ring to ask for, where that is quicker than going over the table.
    fn alone(&self) -> Option<&HashSet<i64>> {
        match self {
            Wanted::Only { tokens, of, .. } if *of > SMALL && tokens.len() as u64 * ONE_IN < *of => {
                Some(tokens)
            }
            _ => None,
        }
    }
}

/// What was set aside and mended where there is no stage to record it.
#[derive(Debug, Default)]
pub struct Tally {
    /// Rows set aside, with their table.
    pub aside: Vec<(String, RejectedRow)>,
    /// How many values were mended, per table, column and way, and in some of which rows.
    pub mended: BTreeMap<(String, String, &'static str), (u64, Vec<serde_json::Value>)>,
    /// How many rows have a mended value, per table.
    pub mended_rows: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, table: &str, converted: &mut Converted) {
        self.aside.extend(converted.aside.drain(..).map(|row| (table.to_owned(), row)));
        let mut last = None;
        for one in converted.mended.drain(..) {
            // The values of one row come one after another.
            if last.as_ref() != Some(&one.key) {
                *self.mended_rows.entry(table.to_owned()).or_default() += 1;
            }
            let (count, keys) = self.mended.entry((table.to_owned(), one.column, one.repair)).or_default();
            *count += 1;
            if keys.len() < EXAMPLES {
                keys.push(one.key.clone());
            }
            last = Some(one.key);
        }
    }
}

/// Everything that loading needs, shared by all tasks.
pub struct Loader {
    /// Where rows come from.
    pub blue: Arc<Blue>,
    /// Where they go.
    pub target: Target,
    /// The plan.
    pub plan: Arc<KeyspacePlan>,
    /// What transcoders must know.
    pub surroundings: RowContext,
    /// Who watches.
    pub observer: Arc<dyn Observer>,
    /// Pages worked on at the same time.
    pub parallel: usize,
    /// Which rows, table by table in the plan's order; all where nothing is said.
    pub wanted: Vec<Wanted>,
    /// Memory of pages that are done.
    pub spare: Spare,
}

/// Memory that goes from page to page.
#[derive(Default)]
pub struct Spare(Mutex<Vec<Converted>>);

static ALL: Wanted = Wanted::All;

/// A part of a table that one task reads from end to end.
struct Part {
    table: usize,
    reader: Arc<TableReader>,
    range: TokenRange,
    /// Rows of its first page.
    rows: i32,
    of: Arc<Progress>,
}

/// How many parts of a table are done, and its pages on their way.
struct Progress {
    done: AtomicUsize,
    parts: usize,
    batch: Mutex<Batch>,
}

impl Loader {
    /// Loads all tables; the result is in the plan's order.
    pub async fn run(self: Arc<Self>) -> Result<Vec<Loaded>> {
        let mut loaded = vec![Loaded::default(); self.plan.moved.len()];
        let mut parts = Vec::new();
        let firsts = futures::stream::iter(0..self.plan.moved.len())
            .map(|table| spawned(self.clone().first_page(table)))
            .buffer_unordered(self.parallel);
        let mut firsts = Box::pin(firsts);
        while let Some(first) = firsts.try_next().await? {
            match first {
                First::Done(table, counts) => self.add(&mut loaded, table, counts),
                First::More(more) => parts.extend(more),
            }
        }
        // Ranges of all tables mixed: a table that hangs on one slow replica does not hold up the others.
        let mut rest = Box::pin(
            futures::stream::iter(parts)
                .map(|part| spawned(self.clone().part(part)))
                .buffer_unordered(self.parallel),
        );
        while let Some((table, counts)) = rest.try_next().await? {
            self.add(&mut loaded, table, counts);
        }
        Ok(loaded)
    }

    fn add(&self, loaded: &mut [Loaded], table: usize, counts: Loaded) {
        if let Some(own) = loaded.get_mut(table) {
            own.add(counts);
        }
    }

    fn table(&self, at: usize) -> Result<&TablePlan> {
        self.plan.moved.get(at).ok_or_else(|| Error::new(crate::error::Kind::Server, "a table left the plan"))
    }

    fn wanted(&self, at: usize) -> &Wanted {
        self.wanted.get(at).unwrap_or(&ALL)
    }

    async fn first_page(self: Arc<Self>, at: usize) -> Result<First> {
        let plan = self.table(at)?;
        if matches!(self.wanted(at), Wanted::Only { keys, .. } if keys.is_empty()) {
            self.observer.done(&plan.table);
            return Ok(First::Done(at, Loaded::default()));
        }
        let select = select(plan);
        let reader = Arc::new(self.blue.reader(&plan.table, &select, &plan.partition_key).await?);
        if let Some(tokens) = self.wanted(at).alone() {
            let alone = |token: &i64| TokenRange { after: token.saturating_sub(1), up_to: *token };
            let cut = in_ranges(&reader, tokens.iter().map(alone));
            return Ok(First::More(parts(at, Page::first_rows(), cut)));
        }
        let whole = |rows| self.blue.page(&reader, TokenRange::WHOLE, PagingState::start(), rows);
        let mut page = whole(Page::first_rows()).await?;
        let rows = page.next_rows();
        if page.next.is_some() && rows > Page::first_rows() {
            page = whole(rows).await?;
        }
        if page.next.is_none() {
            let batch = Mutex::default();
            let mut counts = self.work(at, plan, page, &batch).await?;
            counts.add(self.rest(plan, &batch).await?);
            self.observer.done(&plan.table);
            return Ok(First::Done(at, counts));
        }
        let cut = match &plan.one_partition {
            Some(one) => self.blue.slices(&plan.table, &select, &reader, one).await?,
            None => in_ranges(&reader, self.blue.ranges(self.parallel * 8)),
        };
        Ok(First::More(parts(at, rows, cut)))
    }

    async fn part(self: Arc<Self>, part: Part) -> Result<(usize, Loaded)> {
        let plan = self.table(part.table)?;
        let mut counts = Loaded::default();
        let mut page = self.blue.page(&part.reader, part.range, PagingState::start(), part.rows).await?;
        loop {
            let rows = page.next_rows();
            let coming = page.next.clone().map(|from| {
                let (loader, reader, range) = (self.clone(), part.reader.clone(), part.range);
                let next = async move { loader.blue.page(&reader, range, from, rows).await };
                AbortOnDrop(tokio::spawn(next))
            });
            counts.add(self.work(part.table, plan, page, &part.of.batch).await?);
            match coming {
                Some(next) => page = joined_task(next).await?,
                None => break,
            }
        }
        let done = part.of.done.fetch_add(1, Ordering::AcqRel) + 1;
        self.observer.parts(&plan.table, done, part.of.parts);
        if done == part.of.parts {
            counts.add(self.rest(plan, &part.of.batch).await?);
            self.observer.done(&plan.table);
        }
        Ok((part.table, counts))
    }

    /// Converts one page; into the stage it goes together with others.
    async fn work(&self, at: usize, plan: &TablePlan, page: Page, batch: &Mutex<Batch>) -> Result<Loaded> {
        let mut converted = locked(&self.spare.0).pop().unwrap_or_default();
        self.convert(at, plan, &page, &mut converted)?;
        match &self.target {
            Target::Stage(stage) => {
                let full = locked(batch).add(page, converted);
                return match full {
                    Some(pages) => self.copy(stage, plan, pages).await,
                    None => Ok(Loaded::default()),
                };
            }
            Target::Nowhere(tally) => locked(tally).add(&plan.table, &mut converted),
            Target::Marks(stage, spools) => {
                if let Some(stage) = stage {
                    stage.record(&plan.table, &converted.aside, &[]).await?;
                }
                if let Some(spool) = spools.get(at) {
                    let mut spool = locked(spool);
                    converted.marks.iter().try_for_each(|mark| spool.push(mark))?;
                }
                crate::failpoints::reached("marking").await;
            }
        }
        self.observer.rows(&plan.table, page.len() as u64);
        Ok(self.used(converted))
    }

    /// Copies the pages that still wait.
    async fn rest(&self, plan: &TablePlan, batch: &Mutex<Batch>) -> Result<Loaded> {
        let pages = locked(batch).take();
        match &self.target {
            Target::Stage(stage) if !pages.is_empty() => self.copy(stage, plan, pages).await,
            _ => Ok(Loaded::default()),
        }
    }

    /// Copies some pages into the stage, and records what was set aside from them.
    async fn copy(&self, stage: &Stage, plan: &TablePlan, mut pages: Vec<Kept>) -> Result<Loaded> {
        let buffers: Vec<&RowBuffer> = pages.iter().map(|(_, converted)| &converted.buffer).collect();
        let refused = stage.copy(plan, &buffers).await?;
        for ((page, converted), refused) in pages.iter_mut().zip(&refused) {
            self.settle(plan, page, converted, refused)?;
            stage.record(&plan.table, &converted.aside, &converted.mended).await?;
        }
        crate::failpoints::reached("loading").await;
        let mut counts = Loaded::default();
        for (page, converted) in pages {
            self.observer.rows(&plan.table, page.len() as u64);
            counts.add(self.used(converted));
        }
        Ok(counts)
    }

    /// Sets aside what PostgreSQL refused of a page, and notes which of the wanted rows are in the stage.
    fn settle(
        &self,
        plan: &TablePlan,
        page: &Page,
        converted: &mut Converted,
        refused: &[Refused],
    ) -> Result<()> {
        converted.counts.staged -= refused.len() as u64;
        if !refused.is_empty() {
            let mut aside = self.exhibit_refused(plan, page, &converted.places, refused)?;
            for (row, one) in aside.iter_mut().zip(refused) {
                row.mark = converted.buffer.last_field(one.row, size_of::<Digest128>()).map(<[u8]>::to_vec);
            }
            converted.aside.append(&mut aside);
        }
        let refused: HashSet<usize> = refused.iter().map(|one| one.row).collect();
        for (row, key) in converted.keys.drain(..).enumerate() {
            let counts = &mut converted.counts;
            let of = if refused.contains(&row) { &mut counts.aside } else { &mut counts.kept };
            of.insert(key);
        }
        Ok(())
    }

    /// What a page came to; its memory is used again.
    fn used(&self, mut converted: Converted) -> Loaded {
        let counts = std::mem::take(&mut converted.counts);
        locked(&self.spare.0).push(converted);
        counts
    }

    fn convert(&self, at: usize, plan: &TablePlan, page: &Page, converted: &mut Converted) -> Result<()> {
        let converting = Converting {
            plan,
            surroundings: &self.surroundings,
            wanted: self.wanted(at),
            marking: matches!(self.target, Target::Marks(..)),
        };
        converting.page(page, converted).map_err(|stop| match stop {
            Stop::Unreadable(failure) => {
                self.blue.explain(failure, &format!("cannot read the table \"{}\"", plan.table))
            }
            Stop::UnknownColumn(cell, key) => unknown_column(plan, cell, &key),
            Stop::NotARow => not_a_row(plan),
        })
    }

    /// Shows the rows of a page that only PostgreSQL itself could refuse.
    fn exhibit_refused(
        &self,
        plan: &TablePlan,
        page: &Page,
        places: &[usize],
        refused: &[Refused],
    ) -> Result<Vec<RejectedRow>> {
        let mut aside = Vec::with_capacity(refused.len());
        let states: BTreeMap<usize, &str> =
            refused.iter().filter_map(|one| Some((*places.get(one.row)?, one.sqlstate.as_str()))).collect();
        let mut place = 0;
        let read = page.for_each(|cells| {
            if let Some(state) = states.get(&place) {
                aside.push(RejectedRow {
                    key: row_json::key(plan, cells),
                    column: None,
                    reason: Reason::RefusedByPostgres.code(),
                    detail: Some(format!("SQLSTATE {state}")),
                    row: row_json::row(plan, cells),
                    mark: None,
                });
            }
            place += 1;
        });
        read.map_err(|e| self.blue.explain(e, &format!("cannot read the table \"{}\"", plan.table)))?;
        Ok(aside)
    }
}

/// What a table's first page showed.
enum First {
    Done(usize, Loaded),
    More(Vec<Part>),
}

/// A table's ranges, all read by one statement.
fn in_ranges(
    reader: &Arc<TableReader>,
    ranges: impl IntoIterator<Item = TokenRange>,
) -> Vec<(Arc<TableReader>, TokenRange)> {
    ranges.into_iter().map(|range| (reader.clone(), range)).collect()
}

fn parts(table: usize, rows: i32, cut: Vec<(Arc<TableReader>, TokenRange)>) -> Vec<Part> {
    let of = Arc::new(Progress { done: AtomicUsize::new(0), parts: cut.len(), batch: Mutex::default() });
    cut.into_iter().map(|(reader, range)| Part { table, reader, range, rows, of: of.clone() }).collect()
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The expressions that are read of each row, in the order of the plan's cells.
fn select(plan: &TablePlan) -> String {
    let one = |cell: &Cell| match cell {
        Cell::Value(name, _) => quote(name),
        Cell::TimeToLive(name) => format!("ttl({})", quote(name)),
        // The coordinator's clock, in the same row: expiry is counted from here.
        Cell::ReadTime => "toTimestamp(now())".to_owned(),
    };
    plan.cells.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn unknown_column(plan: &TablePlan, cell: usize, key: &serde_json::Value) -> Error {
    let column = plan.cell_name(cell).unwrap_or("?");
    Error::refused(format!("blue's column {}.{column} holds values, and green has no such column", plan.table))
        .detail(format!("The first row found is {key}."))
        .remedy(format!(
            "If these values may be lost, say so in a schema map and give it with --schema-map: {{\"format\": 1, \"tables\": {{\"{}\": {{\"columns\": {{\"{column}\": {{\"drop\": \"why\"}}}}}}}}}}",
            plan.table
        ))
}

fn not_a_row(plan: &TablePlan) -> Error {
    Error::new(crate::error::Kind::Server, format!("a row of \"{}\" was not encoded whole", plan.table))
        .remedy("This is a defect of kongferry: please report it. Green is as it was.")
}

/// Runs a part on its own task, so that conversion uses all cores.
async fn spawned<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let task = AbortOnDrop(tokio::spawn(work));
    joined_task(task).await
}

/// A task that ends when nobody waits for it any more: an interrupted run must not go on in the background.
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
            Err(Error::new(crate::error::Kind::Server, "a part of the run ended unexpectedly").source(error))
        }
    }
}
