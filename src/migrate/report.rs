//! What a run did, table by table: the structure that text and JSON output are made of (docs/migrate.md describes it;
//! its field names are a contract).

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::database_info::DatabaseInfo;
use crate::error::Error;
use crate::finding::Finding;
use crate::mapping::schema_map::Writer;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Every row that was not rejected, expired or excluded by rule is on green.
    Applied,
    /// Rehearsed only: a scratch server took the rows.
    Rehearsed,
    /// Nothing was written to Kong's tables.
    Refused,
}

#[derive(Debug, Clone, Serialize)]
pub struct MigrationReport {
    /// Version of this structure, 1.
    pub format: u32,
    /// The run's id, as in the journal on green.
    pub run: String,
    pub outcome: RunOutcome,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    pub kong: String,
    /// `open source` or `enterprise`.
    pub edition: &'static str,
    pub kongferry: &'static str,
    pub blue: DatabaseInfo,
    pub green: DatabaseInfo,
    /// Whether only what changed since an earlier run was applied.
    pub incremental: bool,
    pub totals: MigrationCounts,
    /// What an incremental run did, summed over all tables.
    pub changes: Changes,
    pub tables: Vec<MigrationTableReport>,
    /// Rejected rows, per table and reason.
    pub rejects: Vec<RowGroup>,
    /// Repaired values, per table, column and repair.
    pub repairs: Vec<RowGroup>,
    /// What was copied as it is and deserves a check.
    pub notes: Vec<RowGroup>,
    /// Rows changed on green outside kongferry, per table and kind: `made`, `edited`, `removed`.
    #[serde(flatten, serialize_with = "with_former_name")]
    pub manual_changes: Vec<RowGroup>,
    /// The rejects file, if there is one.
    pub rejects_file: Option<String>,
    /// What was found before the run and did not stop it.
    pub warnings: Vec<Finding>,
    pub seconds: PhaseSeconds,
    /// What to do next, in order.
    pub next: Vec<String>,
}

/// `by_hand` is what earlier releases called `manual_changes`.
fn with_former_name<S: Serializer>(groups: &[RowGroup], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(2))?;
    map.serialize_entry("manual_changes", groups)?;
    map.serialize_entry("by_hand", groups)?;
    map.end()
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub problem: String,
    pub details: Vec<String>,
    pub remedy: Option<String>,
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        Refusal {
            problem: error.message().to_owned(),
            details: error.details().to_vec(),
            remedy: error.remedy_text().map(str::to_owned),
        }
    }
}

/// Where every row of blue went: these add up to `source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MigrationCounts {
    pub source: u64,
    /// Rows on green with blue's values.
    pub applied: u64,
    /// Rows on green with a repaired value.
    pub repaired: u64,
    pub rejected: u64,
    /// Rows that expired before they were applied.
    pub expired: u64,
    pub not_copied: u64,
}

/// What an incremental run did, or would do, to green. Zero in a first run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Rows that are as an earlier run wrote them.
    pub unchanged: u64,
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
}

impl Changes {
    pub fn add(&mut self, other: &Changes) {
        self.unchanged += other.unchanged;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }

    pub fn is_none(&self) -> bool {
        self.inserted + self.updated + self.deleted == 0
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationTableReport {
    pub table: String,
    pub writer: Writer,
    #[serde(flatten)]
    pub counts: MigrationCounts,
    /// What an incremental run did to it.
    pub changes: Changes,
    /// Why rows are not copied, if there are any.
    pub reason: Option<String>,
}

/// Several rows with the same fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowGroup {
    pub table: String,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// The code of the reason, repair or note.
    pub reason: String,
    pub rows: u64,
    pub examples: Vec<Value>,
}

/// Wall time of the phases, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PhaseSeconds {
    pub stage: f64,
    pub check: f64,
    pub apply: f64,
    pub total: f64,
}

impl MigrationCounts {
    /// Whether every row of blue is in exactly one class.
    pub fn add_up(&self) -> bool {
        self.source == self.applied + self.repaired + self.rejected + self.expired + self.not_copied
    }

    pub fn add(&mut self, other: &MigrationCounts) {
        self.source += other.source;
        self.applied += other.applied;
        self.repaired += other.repaired;
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.not_copied += other.not_copied;
    }
}

impl MigrationReport {
    /// The exit code that scripts see: 0 clean, 3 with rejects, 4 refused.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            RunOutcome::Refused => 4,
            RunOutcome::Applied | RunOutcome::Rehearsed if self.totals.rejected > 0 => 3,
            RunOutcome::Applied | RunOutcome::Rehearsed => 0,
        }
    }
}
