//! What long work tells whoever watches it. The library reports; the command line draws.

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressPhase {
    /// Rows are counted in tables that are not moved.
    Counting,
    /// Blue is read and compared with what earlier runs wrote.
    Scanning,
    /// Blue is read, green's staging tables are filled.
    Staging,
    /// The stage is checked, set by set.
    Checking,
    /// The stage is merged into Kong's tables.
    Applying,
    /// Both sides are read and compared.
    Comparing,
}

impl ProgressPhase {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            ProgressPhase::Counting => "count",
            ProgressPhase::Scanning => "look",
            ProgressPhase::Staging => "stage",
            ProgressPhase::Checking => "check",
            ProgressPhase::Applying => "apply",
            ProgressPhase::Comparing => "compare",
        }
    }
}

/// Watches a run. Calls come from many tasks at once and must return at once.
pub trait Observer: Send + Sync {
    /// A phase begins; it will go over so many tables.
    fn begin_phase(&self, phase: ProgressPhase, tables: usize);
    /// So many more rows of a table are done.
    fn add_rows(&self, table: &str, rows: u64);
    /// So many of a table's parts, all of about the same size, are done.
    fn set_parts(&self, table: &str, done: usize, of: usize);
    /// A table is done in this phase.
    fn table_done(&self, table: &str);
    /// The last phase has ended; nothing more is drawn.
    fn finish(&self);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Observer for NoProgress {
    fn begin_phase(&self, _: ProgressPhase, _: usize) {}
    fn add_rows(&self, _: &str, _: u64) {}
    fn set_parts(&self, _: &str, _: usize, _: usize) {}
    fn table_done(&self, _: &str) {}
    fn finish(&self) {}
}
