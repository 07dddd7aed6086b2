//! What is compared, and where differences are written.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::inspect::InspectOptions;

/// How many rows of each table are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Coverage {
    #[default]
    Full,
    /// About this percentage of the rows of each large table.
    Sample(f64),
}

#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    pub choices: InspectOptions,
    pub findings: Option<PathBuf>,
    /// Whether secrets are written to that file in full instead of as a digest.
    pub show_secrets: bool,
    /// Compare these tables only; all of them where the set is empty.
    pub only_tables: BTreeSet<String>,
    /// Compare rows of the workspace of this name only.
    pub workspace: Option<String>,
    pub coverage: Coverage,
    /// After a repair: compare the rows of these tables only. References, tags and definitions are checked everywhere.
    pub recheck_tables: Option<BTreeSet<String>>,
}
