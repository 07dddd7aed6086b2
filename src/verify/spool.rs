//! What of each row is kept while a table is compared: forty bytes, in partitions that go to disk when they grow.
//!
//! Memory stays flat however many rows there are: a partition holds what hashes alike on both sides, and partitions
//! are compared one after another. The digests are salted per process, so the files tell nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};

use sha2::{Digest, Sha256};

use super::rules::{Row, Table};
use super::value::Value;
use crate::error::{Error, Kind, Result};

/// Parts that a table is cut into.
const PARTITIONS: usize = 64;

/// Bytes that a partition may hold in memory before it goes to disk.
const IN_MEMORY: usize = 128 << 10;

/// Bytes of one mark.
const MARK: usize = 41;

/// The expiry of a row without one.
const NEVER: i64 = i64::MIN;

/// Short form of a key or a row.
pub type Digest128 = [u8; 16];

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its values.
    pub digest: Digest128,
    /// Its expiry in milliseconds.
    pub expiry: Option<i64>,
    /// Whether a value was mended.
    pub repaired: bool,
}

/// Makes marks, salted.
#[derive(Debug, Clone)]
pub struct Marker {
    salt: [u8; 16],
}

impl Marker {
    /// A marker of this process.
    pub fn new() -> Marker {
        Marker { salt: *uuid::Uuid::new_v4().as_bytes() }
    }

    /// The short form of a row's key – the key itself, where that is one id – and its mark.
    pub fn mark(&self, table: &Table, row: &Row) -> (Digest128, Mark) {
        let mut bytes = Vec::with_capacity(1024);
        row.values.iter().for_each(|value| value.encode(&mut bytes));
        let digest = self.short(&bytes);
        (self.key(table, row, &mut bytes), Mark { digest, expiry: row.expiry, repaired: row.repaired })
    }

    fn key(&self, table: &Table, row: &Row, bytes: &mut Vec<u8>) -> Digest128 {
        let mut parts = table.key.iter().filter_map(|at| row.values.get(*at));
        if table.by_id.is_some()
            && let Some(Value::Uuid(id)) = parts.next()
        {
            return *id;
        }
        bytes.clear();
        for value in table.key.iter().filter_map(|at| row.values.get(*at)) {
            value.encode(bytes);
        }
        self.short(bytes)
    }

    fn short(&self, bytes: &[u8]) -> Digest128 {
        let mut short = Digest128::default();
        let digest = Sha256::new().chain_update(self.salt).chain_update(bytes).finalize();
        short.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        short
    }
}

impl Default for Marker {
    fn default() -> Self {
        Marker::new()
    }
}

/// The marks of one side of a table.
#[derive(Debug)]
pub struct SpillFile {
    parts: Vec<Part>,
    /// How many marks there are.
    pub rows: u64,
}

/// What hashes alike: the newest in memory, the others in a file without a name.
#[derive(Debug, Default)]
struct Part {
    recent: Vec<u8>,
    file: Option<File>,
}

impl Part {
    fn push(&mut self, key: Digest128, mark: Mark) -> std::io::Result<()> {
        if self.recent.len() + MARK > IN_MEMORY {
            if self.file.is_none() {
                self.file = Some(tempfile::tempfile()?);
            }
            self.file.as_mut().map_or(Ok(()), |file| file.write_all(&self.recent))?;
            self.recent.clear();
        }
        self.recent.extend(key);
        self.recent.extend(mark.digest);
        self.recent.extend(mark.expiry.unwrap_or(NEVER).to_be_bytes());
        self.recent.push(u8::from(mark.repaired));
        Ok(())
    }

    fn marks(self) -> std::io::Result<HashMap<Digest128, Mark>> {
        let mut bytes = self.recent;
        if let Some(mut file) = self.file {
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
        }
        let mut marks = HashMap::with_capacity(bytes.len() / MARK);
        marks.extend(bytes.chunks_exact(MARK).filter_map(read_mark));
        Ok(marks)
    }
}

impl SpillFile {
    /// An empty one.
    pub fn new() -> SpillFile {
        SpillFile { parts: (0..PARTITIONS).map(|_| Part::default()).collect(), rows: 0 }
    }

    /// Keeps a mark.
    pub fn push(&mut self, key: Digest128, mark: Mark) -> Result<()> {
        self.rows += 1;
        match self.parts.get_mut(partition(key)) {
            Some(part) => part.push(key, mark).map_err(full),
            None => Ok(()),
        }
    }

    /// The partitions, one after another.
    pub fn partitions(self) -> impl Iterator<Item = Result<HashMap<Digest128, Mark>>> {
        self.parts.into_iter().map(|part| part.marks().map_err(full))
    }
}

/// Ids may count upwards or share their beginning; the product's upper bits depend on all of theirs.
fn partition(key: Digest128) -> usize {
    let mixed = u128::from_be_bytes(key).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    (mixed >> 122) as usize % PARTITIONS
}

impl Default for SpillFile {
    fn default() -> Self {
        SpillFile::new()
    }
}

fn read_mark(bytes: &[u8]) -> Option<(Digest128, Mark)> {
    let expiry = i64::from_be_bytes(bytes.get(32..40)?.try_into().ok()?);
    let mark = Mark {
        digest: bytes.get(16..32)?.try_into().ok()?,
        expiry: (expiry != NEVER).then_some(expiry),
        repaired: bytes.get(40) == Some(&1),
    };
    Some((bytes.get(..16)?.try_into().ok()?, mark))
}

fn full(error: std::io::Error) -> Error {
    Error::new(Kind::Io, "cannot keep digests in the directory for temporary files")
        .source(error)
        .remedy("Set TMPDIR to a directory with more room: verify needs about 100 bytes per row.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were() {
        let mut spool = SpillFile::new();
        let mut all = HashMap::new();
        for at in 0..20_000_u32 {
            let mut key = Digest128::default();
            key.iter_mut().zip(at.reverse_bits().to_be_bytes()).for_each(|(to, from)| *to = from);
            let mark = Mark {
                digest: [7; 16],
                expiry: at.is_multiple_of(2).then_some(i64::from(at)),
                repaired: at < 5,
            };
            spool.push(key, mark).expect("room");
            all.insert(key, mark);
        }
        let mut read = HashMap::new();
        for part in spool.partitions() {
            read.extend(part.expect("readable"));
        }
        assert_eq!(read, all);
    }
}
