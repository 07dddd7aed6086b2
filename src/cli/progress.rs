//! What is drawn while long work goes on: bars on a terminal, plain lines elsewhere, nothing with `--quiet`.
//!
//! All of it goes to stderr; stdout belongs to the result.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::connect::CommonArgs;
use super::text::grouped;
use crate::progress::{Observer, Phase, Unwatched};

/// How often a plain line may be written about one table.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A table with fewer rows than this is done before anybody could read a bar about it.
const WORTH_A_BAR: u64 = 2_000;

/// The bars that are on the screen, if any: the log is written above them.
static BARS: OnceLock<MultiProgress> = OnceLock::new();

/// The observer that fits the terminal and the flags.
pub fn observer(common: &CommonArgs) -> Arc<dyn Observer> {
    if common.quiet {
        Arc::new(Unwatched)
    } else if std::io::stderr().is_terminal() {
        Arc::new(Bars::new(BARS.get_or_init(MultiProgress::new).clone()))
    } else {
        Arc::new(Lines::default())
    }
}

/// Where the log goes: above the bars, or straight to stderr.
pub fn log_writer() -> LogWriter {
    LogWriter(Vec::new())
}

/// One log line in the making.
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
        // A log line that cannot be written has nowhere else to go.
        let _ = match BARS.get() {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bar per table, and one for the phase.
struct Bars {
    screen: MultiProgress,
    phase: Mutex<Option<ProgressBar>>,
    tables: Mutex<BTreeMap<String, Table>>,
}

struct Table {
    bar: Option<ProgressBar>,
    rows: u64,
    parts: (usize, usize),
}

impl Bars {
    fn new(screen: MultiProgress) -> Bars {
        Bars { screen, phase: Mutex::new(None), tables: Mutex::new(BTreeMap::new()) }
    }

    fn bar(&self, name: &str) -> ProgressBar {
        let bar = self.screen.insert_from_back(1, ProgressBar::no_length());
        bar.set_style(style("  {prefix:<30} {bar:20.cyan/dim} {human_pos:>11} rows {per_sec:>12} {msg}"));
        bar.set_prefix(name.to_owned());
        bar
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─")
}

impl Observer for Bars {
    fn phase(&self, phase: Phase, tables: usize) {
        self.finish();
        let bar = self.screen.add(ProgressBar::new(tables as u64));
        bar.set_style(style("{prefix:<32.bold} {bar:20.green/dim} {pos:>11} of {len} tables, {elapsed}"));
        bar.set_prefix(phase.word());
        bar.enable_steady_tick(Duration::from_millis(200));
        *lock(&self.phase) = Some(bar);
    }

    fn rows(&self, name: &str, rows: u64) {
        let mut tables = lock(&self.tables);
        let table =
            tables.entry(name.to_owned()).or_insert_with(|| Table { bar: None, rows: 0, parts: (0, 0) });
        table.rows += rows;
        if table.bar.is_none() && table.rows >= WORTH_A_BAR {
            table.bar = Some(self.bar(name));
        }
        if let Some(bar) = &table.bar {
            bar.set_position(table.rows);
        }
    }

    fn parts(&self, name: &str, done: usize, of: usize) {
        let mut tables = lock(&self.tables);
        let Some(table) = tables.get_mut(name) else { return };
        table.parts = (table.parts.0.max(done), of);
        let Some(bar) = &table.bar else { return };
        // Nobody counts millions of rows beforehand; the ring's parts are of one size, so they tell the length.
        let length = u128::from(table.rows) * table.parts.1 as u128 / (table.parts.0 as u128).max(1);
        bar.set_length(u64::try_from(length).unwrap_or(u64::MAX));
        bar.set_message(format!("{} left", indicatif::HumanDuration(bar.eta())));
    }

    fn done(&self, name: &str) {
        if let Some(Table { bar: Some(bar), rows, .. }) = lock(&self.tables).get(name) {
            bar.set_length(*rows);
            bar.set_message("");
            bar.abandon();
        }
        if let Some(bar) = &*lock(&self.phase) {
            bar.inc(1);
        }
    }

    fn finish(&self) {
        for table in std::mem::take(&mut *lock(&self.tables)).into_values() {
            if let Some(bar) = table.bar {
                bar.finish_and_clear();
            }
        }
        if let Some(bar) = lock(&self.phase).take() {
            bar.abandon();
        }
    }
}

/// A line now and then.
#[derive(Default)]
struct Lines {
    tables: Mutex<BTreeMap<String, (u64, Option<Instant>)>>,
    total: AtomicU64,
    phase: Mutex<Option<(Phase, Instant)>>,
}

impl Observer for Lines {
    fn phase(&self, phase: Phase, tables: usize) {
        self.finish();
        *lock(&self.phase) = Some((phase, Instant::now()));
        eprintln!("{}: {tables} tables", phase.word());
    }

    fn rows(&self, name: &str, rows: u64) {
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

    fn parts(&self, _: &str, _: usize, _: usize) {}

    fn done(&self, name: &str) {
        if let Some((count, _)) = lock(&self.tables).get(name)
            && *count >= WORTH_A_BAR
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
                eprintln!("{}: {} rows in {seconds:.1} s", phase.word(), grouped(total));
            } else {
                eprintln!("{}: done in {seconds:.1} s", phase.word());
            }
        }
    }
}
