//! Comparing blue with the ledger: a fingerprint of each row goes to a spill file, and only the keys of rows that differ
//! are kept in memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::error::Result;
use crate::green::ledger::{LocalChange, LocalChanges};
use crate::mapping::digest::{Digest128, RowDigest};
use crate::spill::{SpillFile, SpillRecord};

/// The expiry of a row without one.
const NEVER: i64 = i64::MIN;

/// Microseconds by which equal expiries may differ: each is computed from the clock of the node that was read
/// (docs/architecture.md, "Time to live").
const SAME_EXPIRY: u64 = 2_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub row: RowDigest,
    /// Where it is on the ring: it can be read again alone.
    pub token: i64,
    pub repaired: bool,
    /// Whether it was rejected; then its digest means nothing.
    pub rejected: bool,
}

impl SpillRecord for Fingerprint {
    const SIZE: usize = 49;

    fn key(&self) -> Digest128 {
        self.row.key
    }

    fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.row.key);
        to.extend_from_slice(&self.row.digest);
        to.extend(self.row.expiry.unwrap_or(NEVER).to_be_bytes());
        to.extend(self.token.to_be_bytes());
        to.push(u8::from(self.repaired) | u8::from(self.rejected) << 1);
    }

    fn decode(bytes: &[u8]) -> Option<Fingerprint> {
        let number = |at: usize| Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let (expiry, flags) = (number(32)?, *bytes.get(48)?);
        Some(Fingerprint {
            row: RowDigest {
                key: bytes.get(..16)?.try_into().ok()?,
                digest: bytes.get(16..32)?.try_into().ok()?,
                expiry: (expiry != NEVER).then_some(expiry),
            },
            token: number(40)?,
            repaired: flags & 1 != 0,
            rejected: flags & 2 != 0,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeleteReason {
    Deleted,
    Expired,
    /// Green would not accept it as it is on blue now.
    Rejected,
}

impl DeleteReason {
    /// Its code in our own tables.
    pub fn as_str(self) -> &'static str {
        match self {
            DeleteReason::Deleted => "deleted",
            DeleteReason::Expired => "expired",
            DeleteReason::Rejected => "rejected",
        }
    }
}

/// How one table of blue differs from the ledger.
#[derive(Debug, Default)]
pub struct TableDifference {
    /// Rows that are as they were written.
    pub unchanged: u64,
    /// Those of them with a repaired value.
    pub unchanged_repaired: u64,
    /// Rows that are not in the ledger.
    pub new: u64,
    /// Those of them that an earlier run rejected as they are now.
    pub rejected_before: u64,
    pub changed: u64,
    /// Rows of a traffic table that the data plane of green changed; they stay as they are on green.
    pub changed_on_green: u64,
    /// Rows to be read again and staged.
    pub to_stage: Arc<HashSet<Digest128>>,
    /// Those of them that are in the ledger.
    pub in_ledger: HashSet<Digest128>,
    /// Where they are on the ring.
    pub tokens: HashSet<i64>,
    /// Rows of the ledger that blue no longer has, or has as green would not accept them.
    pub deletions: HashMap<Digest128, DeleteReason>,
}

#[derive(Debug, Clone, Copy)]
pub struct CompareRules<'a> {
    /// Digests of the rows that the last run rejected.
    pub rejected: &'a HashSet<Digest128>,
    /// Green may have rows and changes of its own, and they stay.
    pub merge_by_key: bool,
    /// Overwrite rows that were changed on green outside kongferry.
    pub replace: bool,
    /// Now, in microseconds since 2000.
    pub now: i64,
}

/// Values by the digest of a key. Its last bytes serve as the hash; its first byte is the same within a partition.
type ByKey<T> = HashMap<Digest128, T, BuildHasherDefault<LastBytes>>;

#[derive(Debug, Default)]
struct LastBytes(u64);

impl Hasher for LastBytes {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.last_chunk().map_or(0, |last| u64::from_ne_bytes(*last));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Compares what blue has with what was written, partition by partition.
pub fn compare(
    blue: SpillFile<Fingerprint>,
    ledger: SpillFile<Fingerprint>,
    local_changes: &LocalChanges,
    rules: CompareRules<'_>,
) -> Result<TableDifference> {
    let mut found = TableDifference::default();
    for (fingerprints, written) in blue.partitions().zip(ledger.partitions()) {
        let written = written?.into_iter().map(|written| (written.row.key, written.row)).collect();
        found.add_partition(fingerprints?, written, local_changes, rules);
    }
    Ok(found)
}

impl TableDifference {
    fn add_partition(
        &mut self,
        fingerprints: Vec<Fingerprint>,
        mut ledger: ByKey<RowDigest>,
        local_changes: &LocalChanges,
        rules: CompareRules<'_>,
    ) {
        let mut unchanged: ByKey<Fingerprint> = HashMap::default();
        for fingerprint in fingerprints {
            let key = fingerprint.row.key;
            let change = local_changes.get(&key).map(|(change, _)| *change);
            let left_alone = rules.merge_by_key && !rules.replace;
            match (ledger.remove(&key), change) {
                (written, _) if fingerprint.rejected => {
                    if written.is_some() {
                        self.deletions.insert(key, DeleteReason::Rejected);
                    }
                }
                (_, Some(LocalChange::Edited | LocalChange::Deleted)) if left_alone => {
                    self.changed_on_green += 1;
                }
                (None, _) => {
                    // Two rows of blue have the same key on green: both are read again.
                    if let Some(twin) = unchanged.remove(&key) {
                        self.in_ledger.insert(key);
                        self.stage(&twin);
                    }
                    self.new += 1;
                    self.rejected_before += u64::from(rules.rejected.contains(&fingerprint.row.digest));
                    self.stage(&fingerprint);
                }
                (Some(written), None)
                    if written.digest == fingerprint.row.digest && same_expiry(written, fingerprint.row) =>
                {
                    unchanged.insert(key, fingerprint);
                }
                (Some(_), _) => {
                    self.changed += 1;
                    self.in_ledger.insert(key);
                    self.stage(&fingerprint);
                }
            }
        }
        self.unchanged += unchanged.len() as u64;
        self.unchanged_repaired += unchanged.values().filter(|row| row.repaired).count() as u64;
        for (key, written) in ledger {
            let change = local_changes.get(&key).map(|(change, _)| *change);
            let kept = rules.merge_by_key && !rules.replace && change == Some(LocalChange::Edited);
            let is_expired =
                written.expiry.is_some_and(|at| at <= rules.now.saturating_add(SAME_EXPIRY.cast_signed()));
            if !kept {
                self.deletions
                    .insert(key, if is_expired { DeleteReason::Expired } else { DeleteReason::Deleted });
            }
        }
    }

    fn stage(&mut self, fingerprint: &Fingerprint) {
        Arc::make_mut(&mut self.to_stage).insert(fingerprint.row.key);
        self.tokens.insert(fingerprint.token);
    }

    pub fn is_empty(&self) -> bool {
        self.to_stage.is_empty() && self.deletions.is_empty()
    }
}

fn same_expiry(row: RowDigest, other: RowDigest) -> bool {
    match (row.expiry, other.expiry) {
        (Some(expiry), Some(other)) => expiry.abs_diff(other) <= SAME_EXPIRY,
        (expiry, other) => expiry == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: std::sync::LazyLock<HashSet<Digest128>> = std::sync::LazyLock::new(HashSet::new);

    fn rules() -> CompareRules<'static> {
        CompareRules { rejected: &NONE, merge_by_key: false, replace: false, now: 1_000_000_000 }
    }

    fn row(key: u8, digest: u8, expiry: Option<i64>) -> Fingerprint {
        let row = RowDigest { key: [key; 16], digest: [digest; 16], expiry };
        Fingerprint { row, token: i64::from(key), repaired: digest == 9, rejected: false }
    }

    fn spill_file(rows: &[Fingerprint]) -> SpillFile<Fingerprint> {
        let mut spill_file = SpillFile::default();
        rows.iter().for_each(|row| spill_file.push(row).expect("room"));
        spill_file
    }

    fn compared(
        blue: &[Fingerprint],
        ledger: &[Fingerprint],
        local_changes: &LocalChanges,
        rules: CompareRules<'_>,
    ) -> TableDifference {
        compare(spill_file(blue), spill_file(ledger), local_changes, rules).expect("compared")
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let rows: Vec<Fingerprint> = (0..=255)
            .map(|n| Fingerprint {
                rejected: n % 3 == 0,
                ..row(n, 9, (n % 2 == 0).then_some(i64::from(n) - 128))
            })
            .collect();
        let mut back: Vec<Fingerprint> =
            spill_file(&rows).partitions().flat_map(|part| part.expect("readable")).collect();
        back.sort_by_key(|row| row.row.key);
        assert_eq!(back, rows);
    }

    #[test]
    fn every_row_is_unchanged_new_changed_or_deleted() {
        let blue = [row(1, 1, None), row(2, 2, None), row(3, 9, Some(5_000_000_000)), row(4, 4, Some(1))];
        let ledger = [
            row(1, 1, None),
            row(2, 7, None),
            row(3, 9, Some(5_002_000_000)),
            row(5, 5, None),
            row(6, 6, Some(1_001_000_000)),
        ];
        let found = compared(&blue, &ledger, &LocalChanges::new(), rules());
        assert_eq!((found.unchanged, found.unchanged_repaired), (2, 1));
        assert_eq!((found.new, found.changed), (1, 1));
        assert_eq!(*found.to_stage, HashSet::from([[2; 16], [4; 16]]));
        assert_eq!(found.tokens, HashSet::from([2, 4]));
        assert_eq!(
            found.deletions,
            HashMap::from([([5; 16], DeleteReason::Deleted), ([6; 16], DeleteReason::Expired)])
        );
    }

    #[test]
    fn an_expiry_further_away_than_two_seconds_is_a_change() {
        let found = |on_blue: Option<i64>| {
            compared(&[row(1, 1, on_blue)], &[row(1, 1, Some(10_000_000))], &LocalChanges::new(), rules())
                .changed
        };
        assert_eq!(found(Some(12_000_000)), 0);
        assert_eq!(found(Some(12_000_001)), 1);
        assert_eq!(found(None), 1);
    }

    #[test]
    fn a_rejected_row_that_was_written_before_is_deleted_and_a_new_one_is_not() {
        let rejected = |key| Fingerprint { rejected: true, ..row(key, 0, None) };
        let found = compared(&[rejected(1), rejected(2)], &[row(1, 1, None)], &LocalChanges::new(), rules());
        assert_eq!(found.deletions, HashMap::from([([1; 16], DeleteReason::Rejected)]));
        assert!(found.to_stage.is_empty());
    }

    #[test]
    fn locally_changed_rows_are_compared_or_kept_depending_on_the_writer_of_the_table() {
        let local_changes: LocalChanges = [
            ([1; 16], (LocalChange::Edited, Vec::new())),
            ([2; 16], (LocalChange::Deleted, Vec::new())),
            ([3; 16], (LocalChange::Edited, Vec::new())),
        ]
        .into();
        let (blue, ledger) =
            ([row(1, 1, None), row(2, 2, None)], [row(1, 1, None), row(2, 2, None), row(3, 3, None)]);
        let admin = compared(&blue, &ledger, &local_changes, rules());
        assert_eq!((admin.unchanged, admin.to_stage.len(), admin.deletions.len()), (0, 2, 1));
        let traffic =
            compared(&blue, &ledger, &local_changes, CompareRules { merge_by_key: true, ..rules() });
        assert_eq!((traffic.changed_on_green, traffic.to_stage.len(), traffic.deletions.len()), (2, 0, 0));
        let replaced = compared(
            &blue,
            &ledger,
            &local_changes,
            CompareRules { merge_by_key: true, replace: true, ..rules() },
        );
        assert_eq!((replaced.changed_on_green, replaced.to_stage.len(), replaced.deletions.len()), (0, 2, 1));
    }

    #[test]
    fn two_rows_with_one_key_are_both_staged() {
        let twin = Fingerprint { token: 77, ..row(1, 1, None) };
        let found = compared(&[row(1, 1, None), twin], &[row(1, 1, None)], &LocalChanges::new(), rules());
        assert_eq!((found.unchanged, found.tokens), (0, HashSet::from([1, 77])));
    }
}
