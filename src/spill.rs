//! Fixed-size records of the rows of one table, kept in partitions by key: in memory at first, then in an unnamed
//! temporary file for each partition. Memory stays flat however many rows the table has.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::marker::PhantomData;

use crate::error::{Error, Kind, Result};

const PARTITIONS: usize = 64;

/// Bytes that a partition holds in memory before they are written to its file.
const IN_MEMORY: usize = 32 << 10;

/// What a [`SpillFile`] keeps of one row.
pub trait SpillRecord: Sized {
    /// Bytes of one encoded record.
    const SIZE: usize;

    /// A record and its counterpart on the other side have the same key, hence the same partition.
    fn key(&self) -> [u8; 16];

    /// Appends exactly `SIZE` bytes.
    fn encode(&self, to: &mut Vec<u8>);

    /// Reads what [`SpillRecord::encode`] wrote.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// The records of one table on one side.
#[derive(Debug)]
pub struct SpillFile<R> {
    partitions: Vec<SpillPartition>,
    rows: u64,
    record: PhantomData<R>,
}

#[derive(Debug, Default)]
struct SpillPartition {
    buffer: Vec<u8>,
    file: Option<File>,
}

impl<R> Default for SpillFile<R> {
    fn default() -> Self {
        let partitions = (0..PARTITIONS).map(|_| SpillPartition::default()).collect();
        SpillFile { partitions, rows: 0, record: PhantomData }
    }
}

impl<R: SpillRecord> SpillFile<R> {
    pub fn push(&mut self, record: &R) -> Result<()> {
        self.rows += 1;
        let Some(partition) = self.partitions.get_mut(partition_of(record.key())) else { return Ok(()) };
        record.encode(&mut partition.buffer);
        if partition.buffer.len() < IN_MEMORY { Ok(()) } else { partition.write().map_err(cannot_spill) }
    }

    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The records of one partition after the other; those of the same key are in partitions of the same place.
    pub fn partitions(self) -> impl Iterator<Item = Result<Vec<R>>> {
        self.partitions.into_iter().map(|partition| {
            let bytes = partition.into_bytes().map_err(cannot_spill)?;
            Ok(bytes.chunks_exact(R::SIZE).filter_map(R::decode).collect())
        })
    }
}

impl SpillPartition {
    fn write(&mut self) -> std::io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => tempfile::tempfile()?,
        };
        file.write_all(&self.buffer)?;
        self.buffer.clear();
        self.file = Some(file);
        Ok(())
    }

    fn into_bytes(mut self) -> std::io::Result<Vec<u8>> {
        let Some(mut file) = self.file.take() else { return Ok(self.buffer) };
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        bytes.append(&mut self.buffer);
        Ok(bytes)
    }
}

/// Keys may be ids that count upwards or share their beginning; the product's upper bits depend on all of their bits.
fn partition_of(key: [u8; 16]) -> usize {
    let mixed = u128::from_be_bytes(key).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed >> 122) as usize % PARTITIONS
}

fn cannot_spill(error: std::io::Error) -> Error {
    let folder = std::env::temp_dir();
    Error::new(Kind::Io, format!("cannot keep digests of rows in {}", folder.display())).source(error).remedy(
        "Set TMPDIR to a directory with more free space: comparing needs about 100 bytes per row there.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
    struct Id([u8; 16], u8);

    impl SpillRecord for Id {
        const SIZE: usize = 17;

        fn key(&self) -> [u8; 16] {
            self.0
        }

        fn encode(&self, to: &mut Vec<u8>) {
            to.extend(self.0);
            to.push(self.1);
        }

        fn decode(bytes: &[u8]) -> Option<Self> {
            Some(Id(bytes.get(..16)?.try_into().ok()?, *bytes.get(16)?))
        }
    }

    fn id(number: u128) -> [u8; 16] {
        number.to_be_bytes()
    }

    #[test]
    fn records_are_read_as_they_were_written_from_memory_and_from_files() {
        for count in [100, 200_000_u128] {
            let mut spill = SpillFile::default();
            for number in 0..count {
                spill.push(&Id(id(number), number.to_le_bytes()[0])).expect("written");
            }
            assert_eq!(u128::from(spill.rows()), count);
            let in_files = spill.partitions.iter().filter(|partition| partition.file.is_some()).count();
            assert_eq!(in_files, if count > 1000 { PARTITIONS } else { 0 });
            let mut read: Vec<Id> = spill.partitions().flat_map(|records| records.expect("read")).collect();
            read.sort();
            let written: Vec<Id> = (0..count).map(|n| Id(id(n), n.to_le_bytes()[0])).collect();
            assert!(read == written, "{} of {count}", read.len());
        }
    }

    #[test]
    fn ids_that_count_upwards_fill_all_partitions_alike() {
        let mut sizes = [0_u32; PARTITIONS];
        (0..64_000).for_each(|number| sizes[partition_of(id(number))] += 1);
        assert!(sizes.iter().all(|size| (900..1100).contains(size)), "{sizes:?}");
        let mut sizes = [0_u32; PARTITIONS];
        (0..64_000_u128).for_each(|number| sizes[partition_of(id(number << 64))] += 1);
        assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
    }
}
