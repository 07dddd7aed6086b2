//! The report of a comparison, table by table. Its field names are a contract with scripts.

use serde::Serialize;

use super::definitions::DefinitionsState;
use super::differences::Difference;
use super::options::{Coverage, VerifyOptions};
use crate::database_info::DatabaseInfo;
use crate::mapping::schema_map::Writer;

#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    /// Version of this structure, 1.
    pub format: u32,
    /// Whether no difference fails the comparison.
    pub clean: bool,
    pub kong: String,
    /// `open source` or `enterprise`.
    pub edition: &'static str,
    pub kongferry: &'static str,
    /// The run whose rejects were taken into account.
    pub run: Option<String>,
    pub blue: DatabaseInfo,
    pub green: DatabaseInfo,
    /// Sums over all tables, without the differences of tables that the data plane writes: those are in `traffic`.
    pub summary: RowCounts,
    /// Differences of tables that the data plane writes; they do not fail the comparison.
    pub traffic: TrafficDifferences,
    pub tables: Vec<VerifyTableReport>,
    /// The number of all differences, including those of `traffic` and `other_findings`.
    pub findings: u64,
    pub definitions: DefinitionsState,
    /// The number of differences that belong to no compared row: tags, orphans, workspaces, definitions.
    pub other_findings: u64,
    pub findings_file: Option<String>,
    pub first: Vec<Difference>,
    /// Whether some tables or rows were not compared, so that this is no proof.
    pub partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Restriction>,
    pub seconds: f64,
}

/// The tables and rows to which a comparison was restricted.
#[derive(Debug, Clone, Serialize)]
pub struct Restriction {
    /// All tables where the list is empty.
    pub tables: Vec<String>,
    pub workspace: Option<String>,
    /// About this percentage of the rows of each large table.
    pub sample_percent: Option<f64>,
}

impl Restriction {
    /// `None` where everything is compared.
    pub(super) fn from_options(options: &VerifyOptions) -> Option<Restriction> {
        let restriction = Restriction {
            tables: options.only_tables.iter().cloned().collect(),
            workspace: options.workspace.clone(),
            sample_percent: match options.coverage {
                Coverage::Full => None,
                Coverage::Sample(percent) => Some(percent),
            },
        };
        let is_everything = restriction.tables.is_empty()
            && restriction.workspace.is_none()
            && restriction.sample_percent.is_none();
        (!is_everything).then_some(restriction)
    }
}

/// The class of each row. All classes but `extra` add up to `source`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RowCounts {
    pub source: u64,
    /// Kong reads the same on both sides.
    pub equal: u64,
    /// The same, once a value is repaired as `migrate` repairs it.
    pub repaired: u64,
    pub expired: u64,
    /// Rejected by the run, and accepted as such.
    pub rejected: u64,
    pub different: u64,
    /// On blue only.
    pub missing: u64,
    /// On green only.
    pub extra: u64,
    /// In a partition that Kong does not read.
    pub not_copied: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TrafficDifferences {
    pub different: u64,
    pub missing: u64,
    pub extra: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct VerifyTableReport {
    pub table: String,
    pub writer: Writer,
    #[serde(flatten)]
    pub counts: RowCounts,
    /// Columns of a type that is not compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_compared: Vec<String>,
}

impl RowCounts {
    /// Whether every row of blue is in exactly one class.
    pub(super) fn add_up(&self) -> bool {
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

    pub(crate) fn is_clean(&self) -> bool {
        self.different + self.missing + self.extra == 0
    }

    fn add(&mut self, other: &RowCounts) {
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
pub(crate) fn sum(tables: &[VerifyTableReport]) -> (RowCounts, TrafficDifferences) {
    let (mut summary, mut traffic) = (RowCounts::default(), TrafficDifferences::default());
    for table in tables {
        let mut counts = table.counts;
        if table.writer == Writer::Traffic {
            traffic.different += std::mem::take(&mut counts.different);
            traffic.missing += std::mem::take(&mut counts.missing);
            traffic.extra += std::mem::take(&mut counts.extra);
        }
        summary.add(&counts);
    }
    (summary, traffic)
}

impl VerifyReport {
    pub(crate) fn exit_code(&self) -> u8 {
        if self.clean { 0 } else { 3 }
    }
}
