//! What a comparison found, table by table; its field names are a contract with scripts.

use serde::Serialize;

use super::definitions::Definitions;
use super::findings::Finding;
use crate::database_info::DatabaseInfo;
use crate::mapping::schema_map::Writer;

/// A whole comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Version of this structure, 1.
    pub format: u32,
    /// Whether nothing was found that fails the comparison.
    pub clean: bool,
    /// The line of Kong versions.
    pub kong: String,
    /// The version of this program.
    pub kongferry: &'static str,
    /// The run whose rejects were taken into account.
    pub run: Option<String>,
    /// Blue.
    pub blue: DatabaseInfo,
    /// Green.
    pub green: DatabaseInfo,
    /// Sums over all tables; differences of tables that the data plane writes are in `traffic`.
    pub summary: Counts,
    /// Differences in tables that the data plane writes; they fail nothing.
    pub traffic: Traffic,
    /// Every table that was compared.
    pub tables: Vec<TableReport>,
    /// How many findings there are, those of `traffic` and those that are no row's among them.
    pub findings: u64,
    /// Whether definitions of Kong's schema are as the run left them.
    pub definitions: Definitions,
    /// Findings that belong to no compared row: tags, orphans, workspaces, definitions.
    pub other_findings: u64,
    /// Where they were written.
    pub findings_file: Option<String>,
    /// The first of them.
    pub first: Vec<Finding>,
    /// Whether only a part was looked at: this is no proof then.
    pub partial: bool,
    /// Which part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// What a repair did; the rest of the report is what was found after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<crate::repair::Repair>,
    /// Wall time.
    pub seconds: f64,
}

/// The part that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// These tables only; all where none is named.
    pub tables: Vec<String>,
    /// This workspace only.
    pub workspace: Option<String>,
    /// About so many of a hundred rows of each large table.
    pub sample_percent: Option<f64>,
}

impl Part {
    /// The part that was asked for; nothing where that is everything.
    pub fn of(options: &super::Options) -> Option<Part> {
        let part = Part {
            tables: options.only.iter().cloned().collect(),
            workspace: options.workspace.clone(),
            sample_percent: match options.share {
                super::Share::Whole => None,
                super::Share::Sample(percent) => Some(percent),
            },
        };
        let is_all = part.tables.is_empty() && part.workspace.is_none() && part.sample_percent.is_none();
        (!is_all).then_some(part)
    }
}

/// Where every row is: all but `extra` add up to `source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Rows on blue.
    pub source: u64,
    /// Read alike on both sides.
    pub equal: u64,
    /// Read alike once a value was mended as the run mends it.
    pub repaired: u64,
    /// Gone by their time to live.
    pub expired: u64,
    /// Left behind by the run, and accepted.
    pub rejected: u64,
    /// A field differs.
    pub different: u64,
    /// On blue only.
    pub missing: u64,
    /// On green only.
    pub extra: u64,
    /// Of a partition that Kong does not read.
    pub not_copied: u64,
}

/// Differences that fail nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// A field differs.
    pub different: u64,
    /// On blue only.
    pub missing: u64,
    /// On green only.
    pub extra: u64,
}

/// One table.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// Its name.
    pub table: String,
    /// Who writes it.
    pub writer: Writer,
    /// Where its rows are.
    #[serde(flatten)]
    pub counts: Counts,
    /// Columns of a type that is not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
}

impl Counts {
    /// Whether every row of blue is in exactly one class.
    pub fn add_up(&self) -> bool {
        let classes = [
            self.equal,
            self.repaired,
            self.expired,
            self.rejected,
            self.different,
            self.missing,
            self.not_copied,
        ];
        self.source == classes.iter().sum::<u64>()
    }

    /// Whether both sides hold the same.
    pub fn clean(&self) -> bool {
        self.different + self.missing + self.extra == 0
    }

    fn add(&mut self, other: &Counts) {
        self.source += other.source;
        self.equal += other.equal;
        self.repaired += other.repaired;
        self.expired += other.expired;
        self.rejected += other.rejected;
        self.different += other.different;
        self.missing += other.missing;
        self.extra += other.extra;
        self.not_copied += other.not_copied;
    }
}

/// The sums over all tables, and the differences of those that the data plane writes.
pub fn sums(tables: &[TableReport]) -> (Counts, Traffic) {
    let (mut sum, mut traffic) = (Counts::default(), Traffic::default());
    for table in tables {
        let mut counts = table.counts;
        if table.writer == Writer::Traffic {
            traffic.different += std::mem::take(&mut counts.different);
            traffic.missing += std::mem::take(&mut counts.missing);
            traffic.extra += std::mem::take(&mut counts.extra);
        }
        sum.add(&counts);
    }
    (sum, traffic)
}

impl Report {
    /// The exit code that scripts see.
    pub fn exit_code(&self) -> u8 {
        if self.clean { 0 } else { 3 }
    }
}
