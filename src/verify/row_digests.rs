//! Salted digests of the rows of one table while it is compared: 41 bytes a row, in partitions that spill to disk.
//!
//! Memory stays bounded whatever the number of rows: a partition holds the rows of both sides whose keys hash alike, and
//! partitions are compared one after another. The salt is the process's own, so the files reveal nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};

use sha2::{Digest, Sha256};

use super::kong_row::KongRow;
use super::reading_rules::ReadingRules;
use super::value::KongValue;
use crate::error::{Error, Kind, Result};

const PARTITIONS: usize = 64;

/// Bytes that a partition holds in memory before it spills to disk.
const IN_MEMORY: usize = 128 << 10;

/// Bytes of one row: key, digest of its values, expiry, repaired.
const ENTRY: usize = 41;

/// Stands for no expiry.
const NEVER: i64 = i64::MIN;

/// The id of a row, where that is its key; else a salted digest of its key.
pub(super) type RowKey = [u8; 16];

/// What a comparison keeps of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowDigest {
    /// Digest of its values.
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
        let digest = Sha256::new().chain_update(self.salt).chain_update(bytes).finalize();
        let mut first_half = [0; 16];
        first_half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        first_half
    }
}

/// The digests of the rows of one side.
#[derive(Debug)]
pub(super) struct DigestSpill {
    partitions: Vec<Partition>,
    pub(super) rows: u64,
}

/// The newest entries are in memory, the others in an unnamed file.
#[derive(Debug, Default)]
struct Partition {
    recent: Vec<u8>,
    file: Option<File>,
}

impl Partition {
    fn push(&mut self, key: RowKey, digest: RowDigest) -> std::io::Result<()> {
        if self.recent.len() + ENTRY > IN_MEMORY {
            if self.file.is_none() {
                self.file = Some(tempfile::tempfile()?);
            }
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(&self.recent))?;
            self.recent.clear();
        }
        self.recent.extend(key);
        self.recent.extend(digest.values);
        self.recent.extend(digest.expiry.unwrap_or(NEVER).to_be_bytes());
        self.recent.push(u8::from(digest.is_repaired));
        Ok(())
    }

    fn into_digests(self) -> std::io::Result<HashMap<RowKey, RowDigest>> {
        let mut bytes = self.recent;
        if let Some(mut file) = self.file {
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
        }
        let mut digests = HashMap::with_capacity(bytes.len() / ENTRY);
        digests.extend(bytes.chunks_exact(ENTRY).filter_map(parse_entry));
        Ok(digests)
    }
}

impl DigestSpill {
    pub(super) fn new() -> DigestSpill {
        DigestSpill { partitions: (0..PARTITIONS).map(|_| Partition::default()).collect(), rows: 0 }
    }

    pub(super) fn push(&mut self, key: RowKey, digest: RowDigest) -> Result<()> {
        self.rows += 1;
        match self.partitions.get_mut(partition_of(key)) {
            Some(partition) => partition.push(key, digest).map_err(spill_error),
            None => Ok(()),
        }
    }

    /// The partitions, one after another.
    pub(super) fn partitions(self) -> impl Iterator<Item = Result<HashMap<RowKey, RowDigest>>> {
        self.partitions.into_iter().map(|partition| partition.into_digests().map_err(spill_error))
    }
}

/// Ids may count upwards or share their first bytes: the upper bits of the product depend on all bits.
fn partition_of(key: RowKey) -> usize {
    let mixed = u128::from_be_bytes(key).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed >> 122) as usize % PARTITIONS
}

impl Default for DigestSpill {
    fn default() -> Self {
        DigestSpill::new()
    }
}

fn parse_entry(bytes: &[u8]) -> Option<(RowKey, RowDigest)> {
    let expiry = i64::from_be_bytes(bytes.get(32..40)?.try_into().ok()?);
    let digest = RowDigest {
        values: bytes.get(16..32)?.try_into().ok()?,
        expiry: (expiry != NEVER).then_some(expiry),
        is_repaired: bytes.get(40) == Some(&1),
    };
    Some((bytes.get(..16)?.try_into().ok()?, digest))
}

fn spill_error(error: std::io::Error) -> Error {
    Error::new(Kind::Io, "cannot write row digests to the directory for temporary files")
        .source(error)
        .remedy("Set TMPDIR to a directory with more space: verify needs about 100 bytes per row.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_back_as_they_were() {
        let mut spill = DigestSpill::new();
        let mut all = HashMap::new();
        for number in 0..20_000_u32 {
            let mut key = RowKey::default();
            key.iter_mut().zip(number.reverse_bits().to_be_bytes()).for_each(|(to, from)| *to = from);
            let digest = RowDigest {
                values: [7; 16],
                expiry: number.is_multiple_of(2).then_some(i64::from(number)),
                is_repaired: number < 5,
            };
            spill.push(key, digest).expect("space on disk");
            all.insert(key, digest);
        }
        let mut read = HashMap::new();
        for partition in spill.partitions() {
            read.extend(partition.expect("a readable partition"));
        }
        assert_eq!(read, all);
    }
}
