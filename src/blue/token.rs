//! Where a row is on the ring: its token, computed from its partition key as Cassandra's Murmur3Partitioner does.
//!
//! Cassandra could be asked for it (`token(…)` in a select), but a function takes it off its quickest way of reading:
//! benches/README.md has the figures.

use scylla::routing::partitioner::{Murmur3Partitioner, Partitioner, PartitionerHasher};

/// The partitioner whose tokens these are, and whose ring is read in ranges of 64-bit numbers.
pub(super) const PARTITIONER: &str = "org.apache.cassandra.dht.Murmur3Partitioner";

/// The token of a partition key of one column, given as blue sends it: it is hashed as it is.
pub fn of_single_column(column: &[u8]) -> i64 {
    Murmur3Partitioner.hash_one(column).value()
}

/// The token of a partition key, whose columns are given as blue sends them, in the order of the key. Nothing where one
/// of them is null, or too long for a key.
///
/// A key of one column is hashed as it is; of several, each has its length (16 bits) in front and a zero behind it
/// (Cassandra, `CompositeType`).
pub fn of_key<'a>(key: impl ExactSizeIterator<Item = Option<&'a [u8]>>) -> Option<i64> {
    let mut hasher = Murmur3Partitioner.build_hasher();
    let several = key.len() > 1;
    for part in key {
        let part = part?;
        if several {
            hasher.write(&u16::try_from(part.len()).ok()?.to_be_bytes());
        }
        hasher.write(part);
        if several {
            hasher.write(&[0]);
        }
    }
    Some(hasher.finish().value())
}
