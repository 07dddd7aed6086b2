//! What a cutover needs from blue's and green's databases, as a trait: this module imports neither.

use futures::future::{BoxFuture, LocalBoxFuture};

use crate::error::Result;

pub trait Databases: std::fmt::Debug + Send + Sync {
    /// Compares every row, as `verify` does.
    fn compare(&self) -> LocalBoxFuture<'_, Result<DatabaseComparison>>;
    /// The tables that Admin API clients changed on either side since the last run, as text; `None` without changes.
    fn drift(&self) -> BoxFuture<'_, Result<Option<String>>>;
    /// Collections of which green's database has rows in the default workspace: Kong's Admin API must list them.
    fn listed_collections(&self) -> BoxFuture<'_, Result<Vec<String>>>;
    /// The runs that wrote Kong's tables on green, from the journal on green.
    fn green_runs(&self) -> BoxFuture<'_, Result<GreenRuns>>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseComparison {
    /// Rows of blue that read alike on green.
    pub equal_rows: u64,
    /// As text; `None` without differences.
    pub differences: Option<String>,
    /// Whether the journal on green has an applied run.
    pub has_applied_run: bool,
    /// Tables with rows that the data plane writes.
    pub traffic_tables: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreenRuns {
    pub count: i64,
    /// The end of the last run; empty without a run.
    pub last_ended: String,
}
