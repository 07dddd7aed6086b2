//! Progress on stderr: bars on a terminal, plain lines elsewhere, nothing with `--quiet`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::args::CommonArgs;
use super::text::{grouped, spent};
use crate::progress::{NoProgress, Observer, ProgressPhase};

/// Least time between two plain lines about one table.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Interval at which a line with a running clock is redrawn.
const TICK: Duration = Duration::from_millis(200);

/// Rows from which on a table has a bar of its own; smaller ones are read in an instant.
const ROWS_FOR_A_BAR: u64 = 2_000;

/// The bars on the screen, if any; the log is written above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// A command's name for a phase.
pub type PhaseName = fn(ProgressPhase) -> &'static str;

/// The observer for this terminal and these flags. `preparation` is shown until the first phase.
pub fn observer(common: &CommonArgs, preparation: &'static str, name: PhaseName) -> Arc<dyn Observer> {
    if common.quiet {
        Arc::new(NoProgress)
    } else if std::io::stderr().is_terminal() {
        Arc::new(BarObserver::new(
            BARS.get_or_init(MultiProgress::new).clone(),
            waiting(common, preparation),
            name,
        ))
    } else {
        Arc::new(LineObserver::new(name))
    }
}

/// Writes log lines to stderr, above the bars.
pub fn log_writer() -> LogWriter {
    LogWriter(Vec::new())
}

/// One log line, written when it is dropped.
pub struct LogWriter(Vec<u8>);

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let write = || std::io::stderr().write_all(&self.0);
        // A log line that cannot be written cannot be reported either.
        let _ = match BARS.get() {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line about work without anything to count; dropping it clears the line.
pub struct Waiting(Option<ProgressBar>);

/// Shows on a terminal what is being done.
pub fn waiting(common: &CommonArgs, action: &'static str) -> Waiting {
    if common.quiet || !std::io::stderr().is_terminal() {
        return Waiting(None);
    }
    let line = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new_spinner());
    line.set_style(style("  {msg} … {elapsed}"));
    line.set_message(action);
    line.enable_steady_tick(TICK);
    Waiting(Some(line))
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.finish_and_clear();
        }
    }
}

/// A bar over `total` items, with rate and time left; hidden without a terminal.
pub fn counting(common: &CommonArgs, action: &'static str, total: usize) -> ProgressBar {
    if common.quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = BARS.get_or_init(MultiProgress::new).add(ProgressBar::new(total as u64));
    bar.set_style(style("  {msg}  {bar:30} {pos} of {len}, {rate}, {eta} left"));
    bar.set_message(action);
    bar.enable_steady_tick(TICK);
    bar
}

/// A bar per large table while blue is read, and a line for the phase.
struct BarObserver {
    screen: MultiProgress,
    name: PhaseName,
    preparation: Mutex<Option<Waiting>>,
    phase: Mutex<Option<PhaseProgress>>,
    tables: Mutex<BTreeMap<String, TableProgress>>,
}

/// The current phase.
struct PhaseProgress {
    phase: ProgressPhase,
    line: ProgressBar,
    began: Instant,
    tables: usize,
    done: usize,
    rows: u64,
}

struct TableProgress {
    bar: Option<ProgressBar>,
    began: Instant,
    rows: u64,
    parts: (usize, usize),
}

impl PhaseProgress {
    /// Its state, after its name.
    fn state(&self) -> String {
        let tables = format!("{} of {} tables", self.done.min(self.tables), self.tables);
        match self.phase {
            // References are checked until no more rows are rejected, so a table is checked an unknown number of times.
            ProgressPhase::Checking => format!("{} tables", self.tables),
            _ if self.rows > 0 => format!("{tables} · {} rows", grouped(self.rows)),
            _ => tables,
        }
    }

    fn end(self) {
        let rows = if self.rows > 0 { format!("{} rows, ", grouped(self.rows)) } else { String::new() };
        let time = spent(self.began.elapsed().as_secs_f64());
        self.line.set_style(style("  {prefix:.bold}  {msg}"));
        self.line.abandon_with_message(format!("{rows}{} tables, {time}", self.tables));
    }
}

impl BarObserver {
    fn new(screen: MultiProgress, preparation: Waiting, name: PhaseName) -> BarObserver {
        BarObserver {
            screen,
            name,
            preparation: Mutex::new(Some(preparation)),
            phase: Mutex::new(None),
            tables: Mutex::new(BTreeMap::new()),
        }
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let bar = self.screen.insert_from_back(1, ProgressBar::no_length());
        bar.set_style(style(if is_wide() {
            "    {prefix:<30!} {bar:24.cyan/dim} {human_pos:>11} rows  {msg}"
        } else {
            "    {prefix:<22!} {bar:10.cyan/dim} {human_pos:>10} rows  {msg}"
        }));
        bar.set_prefix(name.to_owned());
        bar
    }
}

/// An estimate, in whole seconds.
fn remaining(seconds: f64) -> String {
    if seconds < 59.0 { format!("{} s", seconds.ceil() as u64) } else { spent(seconds) }
}

/// Whether the screen is wider than 80 columns.
fn is_wide() -> bool {
    console::Term::stderr().size_checked().is_some_and(|(_, columns)| columns >= 100)
}

fn style(template: &str) -> ProgressStyle {
    // Bars follow NO_COLOR by themselves, but not --color.
    if anstream::AutoStream::choice(&std::io::stderr()) == anstream::ColorChoice::Never {
        console::set_colors_enabled_stderr(false);
    }
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // Writing to a string does not fail.
            let _ = write!(out, "{:.1}/s", state.per_sec());
        })
}

impl TableProgress {
    /// Rows per second since the first one.
    fn rate(&self) -> f64 {
        self.rows as f64 / self.began.elapsed().as_secs_f64().max(0.001)
    }

    fn done(&self) {
        let Some(bar) = &self.bar else { return };
        bar.set_length(self.rows);
        bar.set_position(self.rows);
        bar.set_message(format!("{}/s", grouped(self.rate() as u64)));
        bar.abandon();
    }
}

impl Observer for BarObserver {
    fn begin_phase(&self, phase: ProgressPhase, tables: usize) {
        self.finish();
        let line = self.screen.add(ProgressBar::new_spinner());
        line.set_style(style("  {prefix:.bold}  {msg} · {elapsed}"));
        line.set_prefix((self.name)(phase));
        let current = PhaseProgress { phase, line, began: Instant::now(), tables, done: 0, rows: 0 };
        current.line.set_message(current.state());
        current.line.enable_steady_tick(TICK);
        *lock(&self.phase) = Some(current);
    }

    fn add_rows(&self, name: &str, rows: u64) {
        let mut phase = lock(&self.phase);
        let Some(current) = &mut *phase else { return };
        current.rows += rows;
        current.line.set_message(current.state());
        // The other phases report a table's rows only at its end.
        if !matches!(
            current.phase,
            ProgressPhase::Scanning | ProgressPhase::Staging | ProgressPhase::Comparing
        ) {
            return;
        }
        let mut tables = lock(&self.tables);
        let table = tables.entry(name.to_owned()).or_insert_with(|| TableProgress {
            bar: None,
            began: Instant::now(),
            rows: 0,
            parts: (0, 0),
        });
        table.rows += rows;
        if table.bar.is_none() && table.rows >= ROWS_FOR_A_BAR {
            table.bar = Some(self.bar(name));
        }
        if let Some(bar) = &table.bar {
            bar.set_position(table.rows);
        }
    }

    fn set_parts(&self, name: &str, done: usize, total: usize) {
        let mut tables = lock(&self.tables);
        let Some(table) = tables.get_mut(name) else { return };
        table.parts = (table.parts.0.max(done), total);
        let Some(bar) = &table.bar else { return };
        // Rows are not counted beforehand. The parts of the ring are of one size, so the length can be estimated.
        let length = u128::from(table.rows) * table.parts.1 as u128 / (table.parts.0 as u128).max(1);
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        bar.set_length(length);
        let seconds = length.saturating_sub(table.rows) as f64 / table.rate();
        bar.set_message(format!("{}/s, {} left", grouped(table.rate() as u64), remaining(seconds)));
    }

    fn table_done(&self, name: &str) {
        if let Some(table) = lock(&self.tables).get(name) {
            table.done();
        }
        if let Some(current) = &mut *lock(&self.phase) {
            current.done += 1;
            current.line.set_message(current.state());
        }
    }

    fn finish(&self) {
        drop(lock(&self.preparation).take());
        for table in std::mem::take(&mut *lock(&self.tables)).into_values() {
            if let Some(bar) = table.bar {
                bar.finish_and_clear();
            }
        }
        if let Some(current) = lock(&self.phase).take() {
            current.end();
        }
    }
}

/// Plain lines, for a log or a pipe.
struct LineObserver {
    name: PhaseName,
    tables: Mutex<BTreeMap<String, (u64, Option<Instant>)>>,
    total: AtomicU64,
    phase: Mutex<Option<(ProgressPhase, Instant)>>,
}

impl LineObserver {
    fn new(name: PhaseName) -> LineObserver {
        LineObserver {
            name,
            tables: Mutex::new(BTreeMap::new()),
            total: AtomicU64::new(0),
            phase: Mutex::new(None),
        }
    }
}

impl Observer for LineObserver {
    fn begin_phase(&self, phase: ProgressPhase, tables: usize) {
        self.finish();
        *lock(&self.phase) = Some((phase, Instant::now()));
        eprintln!("{}: {tables} tables", (self.name)(phase));
    }

    fn add_rows(&self, name: &str, rows: u64) {
        self.total.fetch_add(rows, Ordering::Relaxed);
        let mut tables = lock(&self.tables);
        let (count, last) = tables.entry(name.to_owned()).or_insert((0, None));
        *count += rows;
        let now = Instant::now();
        match last {
            None => *last = Some(now),
            Some(before) if now.duration_since(*before) >= LINE_EVERY => {
                *last = Some(now);
                eprintln!("  {name}: {} rows so far", grouped(*count));
            }
            Some(_) => {}
        }
    }

    fn set_parts(&self, _: &str, _: usize, _: usize) {}

    fn table_done(&self, name: &str) {
        if let Some((count, _)) = lock(&self.tables).get(name)
            && *count >= ROWS_FOR_A_BAR
        {
            eprintln!("  {name}: {} rows", grouped(*count));
        }
    }

    fn finish(&self) {
        lock(&self.tables).clear();
        let total = self.total.swap(0, Ordering::Relaxed);
        if let Some((phase, began)) = lock(&self.phase).take() {
            let seconds = began.elapsed().as_secs_f64();
            if total > 0 {
                eprintln!("{}: {} rows in {seconds:.1} s", (self.name)(phase), grouped(total));
            } else {
                eprintln!("{}: done in {seconds:.1} s", (self.name)(phase));
            }
        }
    }
}
