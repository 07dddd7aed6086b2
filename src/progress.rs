//! What long work tells whoever watches it. The library reports; the command line draws.

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are counted in tables that are not moved.
    Counting,
    /// Blue is read and compared with what earlier runs wrote.
    Marking,
    /// Blue is read, green's staging tables are filled.
    Staging,
    /// The stage is checked, set by set.
    Checking,
    /// The stage is merged into Kong's tables.
    Applying,
    /// Both sides are read and compared.
    Comparing,
}

impl Phase {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Counting => "count",
            Phase::Marking => "look",
            Phase::Staging => "stage",
            Phase::Checking => "check",
            Phase::Applying => "apply",
            Phase::Comparing => "compare",
        }
    }
}

/// Watches a run. Calls come from many tasks at once and must return at once.
pub trait Observer: Send + Sync {
    /// A phase begins; it will go over so many tables.
    fn phase(&self, phase: Phase, tables: usize);
    /// So many more rows of a table are done.
    fn rows(&self, table: &str, rows: u64);
    /// So many of a table's parts, all of about the same size, are done.
    fn parts(&self, table: &str, done: usize, of: usize);
    /// A table is done in this phase.
    fn done(&self, table: &str);
    /// The last phase has ended; nothing more is drawn.
    fn finish(&self);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Observer for Unwatched {
    fn phase(&self, _: Phase, _: usize) {}
    fn rows(&self, _: &str, _: u64) {}
    fn parts(&self, _: &str, _: usize, _: usize) {}
    fn done(&self, _: &str) {}
    fn finish(&self) {}
}
