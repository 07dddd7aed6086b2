//! The progress of long work: the library reports, the command line draws.

/// The phases of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressPhase {
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
    pub fn label(self) -> &'static str {
        match self {
            ProgressPhase::Scanning => "scan",
            ProgressPhase::Staging => "stage",
            ProgressPhase::Checking => "check",
            ProgressPhase::Applying => "apply",
            ProgressPhase::Comparing => "compare",
        }
    }
}

/// Receives the progress of a run. Called from many tasks at the same time; must not block.
pub trait Observer: Send + Sync {
    /// A phase begins, over this number of tables.
    fn begin_phase(&self, phase: ProgressPhase, tables: usize);
    /// More rows of a table are done.
    fn add_rows(&self, table: &str, rows: u64);
    /// Of a table's ranges, all of about the same size, `done` are done.
    fn set_parts(&self, table: &str, done: usize, of: usize);
    /// A table is done in this phase.
    fn table_done(&self, table: &str);
    /// The last phase has ended; nothing more is drawn.
    fn finish(&self);
}

#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Observer for NoProgress {
    fn begin_phase(&self, _: ProgressPhase, _: usize) {}
    fn add_rows(&self, _: &str, _: u64) {}
    fn set_parts(&self, _: &str, _: usize, _: usize) {}
    fn table_done(&self, _: &str) {}
    fn finish(&self) {}
}
