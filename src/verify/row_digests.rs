//! Salted digests of the rows of one table while it is compared. The salt is the process's own, so the spill files
//! reveal nothing.

use ring::digest;

use super::kong_row::KongRow;
use super::reading_rules::ReadingRules;
use super::value::KongValue;
use crate::spill::{SpillFile, SpillRecord};

const NEVER: i64 = i64::MIN;

/// The id of a row, where that is its key; else a salted digest of its key.
pub(super) type RowKey = [u8; 16];

/// What a comparison keeps of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowDigest {
    pub(super) values: [u8; 16],
    /// Milliseconds since 1970.
    pub(super) expiry: Option<i64>,
    pub(super) is_repaired: bool,
}

#[derive(Debug, Clone)]
pub(super) struct RowHasher {
    salt: [u8; 16],
}

impl RowHasher {
    pub(super) fn new() -> RowHasher {
        RowHasher { salt: *uuid::Uuid::new_v4().as_bytes() }
    }

    pub(super) fn digest(&self, table: &ReadingRules, row: &KongRow) -> (RowKey, RowDigest) {
        let mut bytes = Vec::with_capacity(1024);
        row.values.iter().for_each(|value| value.encode(&mut bytes));
        let values = self.hash(&bytes);
        let digest = RowDigest { values, expiry: row.expiry, is_repaired: row.is_repaired };
        (self.key(table, row, &mut bytes), digest)
    }

    fn key(&self, table: &ReadingRules, row: &KongRow, bytes: &mut Vec<u8>) -> RowKey {
        let mut values = table.key.iter().filter_map(|place| row.values.get(*place));
        if table.by_id.is_some()
            && let Some(KongValue::Uuid(id)) = values.next()
        {
            return *id;
        }
        bytes.clear();
        for value in table.key.iter().filter_map(|place| row.values.get(*place)) {
            value.encode(bytes);
        }
        self.hash(bytes)
    }

    fn hash(&self, bytes: &[u8]) -> [u8; 16] {
        let mut hasher = digest::Context::new(&digest::SHA256);
        hasher.update(&self.salt);
        hasher.update(bytes);
        let mut first_half = [0; 16];
        first_half.iter_mut().zip(hasher.finish().as_ref()).for_each(|(to, from)| *to = *from);
        first_half
    }
}

/// The digests of the rows of one side.
pub(super) type DigestSpill = SpillFile<(RowKey, RowDigest)>;

impl SpillRecord for (RowKey, RowDigest) {
    const SIZE: usize = 41;

    fn key(&self) -> RowKey {
        self.0
    }

    fn encode(&self, to: &mut Vec<u8>) {
        let (key, digest) = self;
        to.extend(key);
        to.extend(digest.values);
        to.extend(digest.expiry.unwrap_or(NEVER).to_be_bytes());
        to.push(u8::from(digest.is_repaired));
    }

    fn decode(bytes: &[u8]) -> Option<(RowKey, RowDigest)> {
        let expiry = i64::from_be_bytes(bytes.get(32..40)?.try_into().ok()?);
        let digest = RowDigest {
            values: bytes.get(16..32)?.try_into().ok()?,
            expiry: (expiry != NEVER).then_some(expiry),
            is_repaired: bytes.get(40) == Some(&1),
        };
        Some((bytes.get(..16)?.try_into().ok()?, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_back_as_they_were() {
        for (expiry, is_repaired) in [(None, false), (Some(0), true), (Some(i64::MAX), false)] {
            let record = ([3; 16], RowDigest { values: [7; 16], expiry, is_repaired });
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!((bytes.len(), SpillRecord::decode(&bytes)), (41, Some(record)));
        }
    }
}
