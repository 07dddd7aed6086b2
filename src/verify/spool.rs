//! What of each row is kept while a table is compared: forty bytes, in partitions that go to disk when they grow.
//!
//! Memory stays flat however many rows there are: a partition holds what hashes alike on both sides, and partitions
//! are compared one after another. The digests are salted per process, so the files tell nothing.

use std::collections::HashMap;
use std::io::{Read, Seek, Write};

use sha2::{Digest, Sha256};
use tempfile::SpooledTempFile;

use super::rules::{Row, Table};
use crate::error::{Error, Kind, Result};

/// Parts that a table is cut into.
const PARTITIONS: usize = 64;

/// Bytes that a partition may hold in memory.
const IN_MEMORY: usize = 256 << 10;

/// Bytes of one mark.
const MARK: usize = 41;

/// The expiry of a row without one.
const NEVER: i64 = i64::MIN;

/// Short form of a key or a row.
pub type Short = [u8; 16];

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its values.
    pub digest: Short,
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

    /// The short form of a row's key, and its mark.
    pub fn mark(&self, table: &Table, row: &Row) -> (Short, Mark) {
        let mut bytes = Vec::with_capacity(512);
        for value in table.key.iter().filter_map(|at| row.values.get(*at)) {
            value.encode(&mut bytes);
        }
        let key = self.short(&bytes);
        bytes.clear();
        row.values.iter().for_each(|value| value.encode(&mut bytes));
        (key, Mark { digest: self.short(&bytes), expiry: row.expiry, repaired: row.repaired })
    }

    fn short(&self, bytes: &[u8]) -> Short {
        let mut short = Short::default();
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
pub struct Spool {
    parts: Vec<SpooledTempFile>,
    /// How many marks there are.
    pub rows: u64,
}

impl Spool {
    /// An empty one.
    pub fn new() -> Spool {
        Spool { parts: (0..PARTITIONS).map(|_| SpooledTempFile::new(IN_MEMORY)).collect(), rows: 0 }
    }

    /// Keeps a mark.
    pub fn push(&mut self, key: Short, mark: Mark) -> Result<()> {
        let part = key.first().map_or(0, |byte| usize::from(*byte) % PARTITIONS);
        let mut bytes = Vec::with_capacity(MARK);
        bytes.extend(key);
        bytes.extend(mark.digest);
        bytes.extend(mark.expiry.unwrap_or(NEVER).to_be_bytes());
        bytes.push(u8::from(mark.repaired));
        self.rows += 1;
        match self.parts.get_mut(part) {
            Some(file) => file.write_all(&bytes).map_err(full),
            None => Ok(()),
        }
    }

    /// The partitions, one after another.
    pub fn partitions(self) -> impl Iterator<Item = Result<HashMap<Short, Mark>>> {
        self.parts.into_iter().map(|mut file| {
            let mut bytes = Vec::new();
            file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(full)?;
            Ok(bytes.chunks_exact(MARK).filter_map(read_mark).collect())
        })
    }
}

impl Default for Spool {
    fn default() -> Self {
        Spool::new()
    }
}

fn read_mark(bytes: &[u8]) -> Option<(Short, Mark)> {
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
        let mut spool = Spool::new();
        let mut all = HashMap::new();
        for at in 0..20_000_u32 {
            let mut key = Short::default();
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
