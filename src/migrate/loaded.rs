//! What became of the rows of one table of blue while they were read.

use std::collections::{BTreeMap, HashSet};

use crate::mapping::digest::Digest128;
use crate::mapping::reason::Note;

/// Keys shown as examples of one note.
pub(super) const EXAMPLES: usize = 100;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadedTable {
    pub source: u64,
    pub staged: u64,
    /// Rows of a partition that Kong does not read.
    pub other_partition: u64,
    /// Rows of workspaces that blue does not have.
    pub deleted_workspace: u64,
    /// Rows of which only cells without the row's TTL are left.
    pub expired: u64,
    /// Rows that are on green as an earlier run wrote them; they are not staged.
    pub unchanged: u64,
    /// Those of them with a repaired value.
    pub unchanged_repaired: u64,
    /// Rows of a traffic table that green's data plane changed; they stay as they are on green.
    pub changed_on_green: u64,
    /// The keys of staged rows, where a filter names keys.
    pub staged_keys: HashSet<Digest128>,
    /// The keys of rejected rows, where a filter names keys.
    pub rejected_keys: HashSet<Digest128>,
    /// Per column and note: how many values, and keys of some of the rows.
    pub notes: BTreeMap<(String, Note), (u64, Vec<String>)>,
}

impl LoadedTable {
    pub(super) fn add(&mut self, other: LoadedTable) {
        self.source += other.source;
        self.staged += other.staged;
        self.other_partition += other.other_partition;
        self.deleted_workspace += other.deleted_workspace;
        self.expired += other.expired;
        self.unchanged += other.unchanged;
        self.unchanged_repaired += other.unchanged_repaired;
        self.changed_on_green += other.changed_on_green;
        self.staged_keys.extend(other.staged_keys);
        self.rejected_keys.extend(other.rejected_keys);
        for (note, (count, keys)) in other.notes {
            let (sum, examples) = self.notes.entry(note).or_default();
            *sum += count;
            examples.extend(keys);
            examples.truncate(EXAMPLES);
        }
    }
}
