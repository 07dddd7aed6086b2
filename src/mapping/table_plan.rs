//! The table plan: schema map × blue's catalog × green's catalog, resolved.
//!
//! For each green column it says where its value comes from and how it is converted; for each table whether it is
//! moved. Whatever stands on both sides under the same name is mapped by columns and types; the map states only the
//! exceptions. What cannot be resolved becomes an [`Obstacle`], never a silent omission.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::blue::OnePartition;
use crate::catalog::green::GreenColumn;

use super::conversion::Conversion;
use super::prefix::PrefixPolicy;
use super::schema_map::{ColumnRemark, Writer};

/// What the user said about single tables.
#[derive(Debug, Clone, Default)]
pub struct TableChoices {
    /// Tables to move although the map moves them only on request.
    pub include: BTreeSet<String>,
    pub skip: BTreeSet<String>,
}

/// The plan of a whole keyspace.
#[derive(Debug, Clone)]
pub struct KeyspacePlan {
    /// Tables that are moved, parents before children.
    pub moved: Vec<TablePlan>,
    /// Tables of blue that are not moved, and why.
    pub not_moved: Vec<UnmovedTable>,
    /// Tables that only green has.
    pub only_green: Vec<String>,
    /// What must be decided before anything can be moved.
    pub obstacles: Vec<Obstacle>,
}

/// A table of blue that is not moved.
#[derive(Debug, Clone)]
pub struct UnmovedTable {
    pub table: String,
    pub writer: Writer,
    pub reason: String,
    /// Whether rows in it are a reason to stop: nobody decided that they may stay behind.
    pub must_be_empty: bool,
}

/// Something that stops the run, with the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    pub problem: String,
    pub remedy: String,
    /// A schema map that would decide it, where one can.
    pub schema_map: Option<String>,
    /// It stops the run only where this table of blue has rows.
    pub only_with_rows_in: Option<String>,
}

impl Obstacle {
    /// One that no schema map decides.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
        Obstacle { problem: problem.into(), remedy: remedy.into(), schema_map: None, only_with_rows_in: None }
    }
}

/// The plan of one table that is moved.
#[derive(Debug, Clone)]
pub struct TablePlan {
    /// Its name, the same on both sides.
    pub table: String,
    pub writer: Writer,
    /// What is read from blue, in this order.
    pub cells: Vec<Cell>,
    /// Blue's partition key, for `token(…)`.
    pub partition_key: Vec<String>,
    /// Its cells, in its order: where a row is on the ring.
    pub partition_cells: Vec<usize>,
    /// Green's columns, in the order of its table.
    pub columns: Vec<ColumnPlan>,
    /// Green's columns that it computes by itself; indexes and checks may be about them.
    pub generated: Vec<GreenColumn>,
    /// Green's primary key, which names the row to people.
    pub key: Vec<String>,
    /// Green's columns that hold blue's primary key as it is: no two rows of blue are the same in all of them. Nothing
    /// where a part of that key is converted in a way that could make two values one.
    pub identity: Option<Vec<String>>,
    /// Only rows whose cell at this place holds this text are Kong's.
    pub partition: Option<(usize, String)>,
    /// Whether the partition is inferred from the catalogs: no map names it.
    pub partition_inferred: bool,
    /// Where they are all in one partition, what that is.
    pub one_partition: Option<OnePartition>,
    /// The cell with the row's workspace.
    pub workspace: Option<usize>,
    /// The cell with the id of a workspace that blue must have; rows of deleted workspaces are left behind.
    pub of_workspace: Option<usize>,
    /// Groups of cells: of each, one must have a value.
    pub required: Vec<Vec<usize>>,
    /// Cells of blue that green has no column for, and that must be null.
    pub unknown: Vec<usize>,
    /// Cells that are all null in what is left of an expired row; empty where nothing outlives its row.
    pub null_when_expired: Vec<usize>,
    pub expiry: Option<String>,
    /// Names of blue's columns that are left behind, and why.
    pub dropped: Vec<(String, String)>,
}

/// One thing read from blue for each row.
#[derive(Debug, Clone)]
pub enum Cell {
    Value(String, crate::cql::CqlType),
    /// The seconds that a column's cell has left to live.
    TimeToLive(String),
    ReadTime,
}

/// Where one column of green comes from.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    pub name: String,
    pub green_type: String,
    pub source: ColumnSource,
}

#[derive(Debug, Clone)]
pub enum ColumnSource {
    Cell {
        cell: usize,
        /// How its bytes are converted.
        conversion: Conversion,
        /// Whether the row's workspace id stands in front.
        prefixed: bool,
        /// What its rows do with it, where no map knows.
        prefix_policy: PrefixPolicy,
        /// What takes the place of null.
        when_null: Option<Substitute>,
        /// What to look at without touching it.
        remark: Option<ColumnRemark>,
    },
    /// A composite key, rebuilt from other cells; the stored one is compared with it.
    CacheKey { cell: Option<usize>, parts: Vec<CacheKeyPart> },
    /// Read time plus one of these cells' times to live.
    CellExpiry {
        /// Places of the times to live.
        ttls: Vec<usize>,
        now: usize,
        choice: ExpiryChoice,
        /// The table's default time to live, in seconds; 0 where it has none.
        default_ttl: i32,
    },
    /// A text in the rows that another table of blue names; the others have the value of `otherwise`.
    WhenNamed {
        /// The cell that is named.
        key: usize,
        table: String,
        value: String,
        otherwise: Box<ColumnSource>,
    },
    /// Start of a window plus the seconds of its period.
    WindowExpiry {
        start: usize,
        period: usize,
        /// Seconds of each period.
        seconds: BTreeMap<String, i64>,
    },
    /// Nothing on blue: NULL, spelled out so that green's default does not step in.
    Null,
}

/// Which of a row's times to live counts (docs/architecture.md, "Time to live").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpiryChoice {
    /// Of cells without which Kong cannot use the row.
    Smallest,
    /// Of all cells, where nothing says which Kong needs: the row is visible while one lives.
    Largest,
}

/// What takes the place of null.
#[derive(Debug, Clone)]
pub enum Substitute {
    Boolean(bool),
    /// A whole number, as green's column holds it.
    Integer(Vec<u8>),
    /// SHA-256 over the first certificate in this cell.
    CertificateDigest(usize),
}

/// One part of a composite key.
#[derive(Debug, Clone)]
pub enum CacheKeyPart {
    Text(String),
    Cell { cell: usize, kind: CacheKeyPartKind },
}

/// How a cell becomes a part of a composite key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKeyPartKind {
    Text,
    /// Its text without the workspace id in front.
    Prefixed,
    Uuid,
}

impl KeyspacePlan {
    /// The plan of a table that is moved.
    pub fn table(&self, name: &str) -> Option<&TablePlan> {
        self.moved.iter().find(|plan| plan.table == name)
    }
}

impl TablePlan {
    /// Name of the column that a cell is the value of.
    pub fn cell_name(&self, cell: usize) -> Option<&str> {
        match self.cells.get(cell)? {
            Cell::Value(name, _) => Some(name),
            Cell::TimeToLive(_) | Cell::ReadTime => None,
        }
    }
}

/// The schema map that leaves a table behind for good.
pub fn leave_behind(table: &str) -> String {
    snippet(table, "\"copy\": \"never\", \"reason\": \"Why its rows may stay behind.\"")
}

/// The schema map that names the partition of a table that Kong reads.
pub fn partition_in(table: &str, column: &str, value: &str) -> String {
    let (column, value) = (quoted(column), quoted(value));
    snippet(table, &format!("\"partition\": {{\"column\": {column}, \"value\": {value}}}"))
}

pub(super) fn snippet(table: &str, rules: &str) -> String {
    format!("{{\"format\": 1, \"tables\": {{{}: {{{rules}}}}}}}", quoted(table))
}

pub(super) fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}
