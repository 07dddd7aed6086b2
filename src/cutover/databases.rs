//! What a cutover asks of blue's and green's databases, answered outside of this module.

use futures::future::{BoxFuture, LocalBoxFuture};

use crate::error::Result;

/// Both databases, where the command line or the configuration names them.
pub trait Databases: std::fmt::Debug + Send + Sync {
    /// Compares every row, as `verify` does.
    fn compare(&self) -> LocalBoxFuture<'_, Result<DatabaseComparison>>;
    /// The tables that Admin API clients changed on either side since the last run, as text; `None` where there are
    /// none.
    fn drift(&self) -> BoxFuture<'_, Result<Option<String>>>;
    /// Collections that Kong's Admin API must list in its default workspace, since green's database has rows of them.
    fn listed_collections(&self) -> BoxFuture<'_, Result<Vec<String>>>;
    /// The runs that wrote Kong's tables on green, by the journal that they left there.
    fn green_runs(&self) -> BoxFuture<'_, Result<GreenRuns>>;
}

/// The result of comparing blue with green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseComparison {
    /// Rows of blue that read alike on green.
    pub equal_rows: u64,
    /// What differs, as text; `None` where nothing does.
    pub differences: Option<String>,
    /// Whether green's journal knows an applied run.
    pub has_applied_run: bool,
    /// Tables with rows that the data plane writes.
    pub traffic_tables: Vec<String>,
}

/// The runs that wrote Kong's tables on green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreenRuns {
    pub count: i64,
    /// When the last one ended; empty without a run.
    pub last_ended: String,
}
