//! What a run did, table by table: the structure that text and JSON output are made of (docs/migrate.md describes it;
//! its field names are a contract).

use serde::Serialize;
use serde_json::Value;

use crate::database_info::DatabaseInfo;
use crate::error::Error;
use crate::finding::Finding;
use crate::mapping::schema_map::Writer;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// Everything that was not rejected, expired or left by rule stands on green.
    Applied,
    /// Rehearsed only: a scratch server took the rows.
    Rehearsed,
    /// Nothing was written to Kong's tables.
    Refused,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct MigrationReport {
    /// Version of this structure, 1.
    pub format: u32,
    /// The run's id, as in the journal on green.
    pub run: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Why it was refused, if it was.
    pub refusal: Option<Refusal>,
    /// The line of Kong versions.
    pub kong: String,
    /// The version of this program.
    pub kongferry: &'static str,
    /// Where the rows came from.
    pub blue: DatabaseInfo,
    /// Where they went.
    pub green: DatabaseInfo,
    /// Whether only what changed since an earlier run was applied.
    pub incremental: bool,
    /// Sums over all tables.
    pub totals: MigrationCounts,
    /// What an incremental run did, summed over all tables.
    pub changes: Changes,
    /// Every table of blue.
    pub tables: Vec<MigrationTableReport>,
    /// Rows set aside, per table and reason.
    pub rejects: Vec<RowGroup>,
    /// Values mended, per table, column and way.
    pub repairs: Vec<RowGroup>,
    /// What was copied and is worth a look.
    pub notes: Vec<RowGroup>,
    /// Rows that somebody changed on green, per table and kind: `made`, `edited`, `removed`.
    pub by_hand: Vec<RowGroup>,
    /// The rejects file, if there is one.
    pub rejects_file: Option<String>,
    /// What was found before the run and did not stop it.
    pub warnings: Vec<Finding>,
    /// Wall time of the phases.
    pub seconds: PhaseSeconds,
    /// What to do next, in order.
    pub next: Vec<String>,
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// What is so.
    pub problem: String,
    /// More about it.
    pub details: Vec<String>,
    /// What to do.
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
    /// Rows on blue.
    pub source: u64,
    /// Rows that stand on green as they were.
    pub applied: u64,
    /// Rows that stand on green with a value mended.
    pub repaired: u64,
    /// Rows set aside.
    pub rejected: u64,
    /// Rows whose time ran out on the way.
    pub expired: u64,
    /// Rows left behind by rule.
    pub not_copied: u64,
}

/// What an incremental run did, or would do, to green. Zero in a first run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Rows that are as an earlier run wrote them.
    pub unchanged: u64,
    /// Rows that green did not have.
    pub inserted: u64,
    /// Rows that it had otherwise.
    pub updated: u64,
    /// Rows that left it.
    pub deleted: u64,
}

impl Changes {
    /// Adds another table's.
    pub fn add(&mut self, other: &Changes) {
        self.unchanged += other.unchanged;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
    }

    /// Whether nothing is written.
    pub fn is_none(&self) -> bool {
        self.inserted + self.updated + self.deleted == 0
    }
}

/// One table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MigrationTableReport {
    /// Its name.
    pub table: String,
    /// Who writes it.
    pub writer: Writer,
    /// Where its rows went.
    #[serde(flatten)]
    pub counts: MigrationCounts,
    /// What an incremental run did to it.
    pub changes: Changes,
    /// Why rows were left behind, if any were.
    pub reason: Option<String>,
}

/// Several rows with the same fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowGroup {
    /// Their table.
    pub table: String,
    /// The column, where one is to blame.
    pub column: Option<String>,
    /// The code of the reason, repair or note.
    pub reason: String,
    /// How many.
    pub rows: u64,
    /// Some of their keys.
    pub examples: Vec<Value>,
}

/// Wall time of the phases, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PhaseSeconds {
    /// Reading blue, filling the stage.
    pub stage: f64,
    /// Checking the stage.
    pub check: f64,
    /// Applying it.
    pub apply: f64,
    /// All of it, connecting aside.
    pub total: f64,
}

impl MigrationCounts {
    /// Whether every row of blue is in exactly one class.
    pub fn add_up(&self) -> bool {
        self.source == self.applied + self.repaired + self.rejected + self.expired + self.not_copied
    }

    /// Adds another table's.
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
