//! Rows that were read from a Cassandra and a PostgreSQL, kept in files: `blue/TABLE.jsonl`, `green/TABLE.jsonl`.
//!
//! The format is described in `tests/fixtures/README.md`. Any directory of that format will do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kongferry::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, fixtures};
use crate::context::Context;

/// A pair of recordings, or one side of it.
#[derive(Debug, Clone)]
pub struct Fixture {
    directory: PathBuf,
    pub blue: BTreeMap<String, Vec<BlueRow>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlueRow {
    /// Its columns, as `SELECT JSON` shows them.
    pub row: Map<String, Value>,
    /// Seconds that each cell had left; absent for a table whose cells cannot be asked.
    pub ttl: Option<BTreeMap<String, i32>>,
    /// Microseconds at which each cell was written.
    pub writetime: Option<BTreeMap<String, i64>>,
}

impl Fixture {
    /// Reads `DIRECTORY/blue`. The green side is read when it is asked for.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut blue = BTreeMap::new();
        for (table, path) in tables_in(&directory.join("blue"))? {
            blue.insert(table, read_lines(&path)?);
        }
        Ok(Fixture { directory: directory.to_owned(), blue })
    }

    /// The rows of one of [`LINES`](crate::catalog::LINES). 3.0, 3.1 and 3.2 were never recorded: theirs are those
    /// of 3.3 without the tables and columns that came later, and have no green side.
    pub fn shipped(line: &str) -> Result<Self> {
        let directory = fixtures().join(line);
        if directory.join("blue").is_dir() {
            return Fixture::read(&directory);
        }
        let mut fixture = Fixture::shipped("3.3")?;
        fixture.reduce_to(&Catalog::of(line)?);
        fixture.blue.insert("schema_meta".to_owned(), schema_meta(line)?);
        fixture.directory = directory;
        Ok(fixture)
    }

    /// What Kong wrote to PostgreSQL for the same calls, by table.
    pub fn green(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        read_green(&self.directory.join("green"))
    }

    /// How many rows of `table` the blue side has.
    pub fn blue_count(&self, table: &str) -> usize {
        self.blue.get(table).map_or(0, Vec::len)
    }

    fn reduce_to(&mut self, catalog: &Catalog) {
        self.blue.retain(|name, _| catalog.tables.contains_key(name));
        for (name, rows) in &mut self.blue {
            let columns = &catalog.tables[name].columns;
            for row in rows {
                row.row.retain(|column, _| columns.iter().any(|known| known.name == *column));
            }
        }
    }
}

/// The rows of a folder of PostgreSQL rows, by table.
pub(crate) fn read_green(directory: &Path) -> Result<BTreeMap<String, Vec<Value>>> {
    let tables = tables_in(directory)?.into_iter();
    tables.map(|(table, path)| Ok((table, read_lines(&path)?))).collect()
}

/// `schema_meta` of a finished bootstrap of that line, as Cassandra holds it: `executed` is a set.
fn schema_meta(line: &str) -> Result<Vec<BlueRow>> {
    let path = fixtures().join("schema_meta.json");
    let unreadable = || format!("cannot read {}", path.display());
    let all: Value = serde_json::from_slice(&fs::read(&path).context(unreadable)?).context(unreadable)?;
    let versions = all["versions"].as_object();
    let found =
        versions.and_then(|all| all.iter().find(|(version, _)| version.starts_with(&format!("{line}."))));
    let subsystems = found.and_then(|(_, subsystems)| subsystems.as_object());
    let subsystems =
        subsystems.ok_or_else(|| Error::usage(format!("no migrations of Kong {line} are known")))?;
    Ok(subsystems.iter().map(|(name, migrations)| schema_meta_row(name, migrations)).collect())
}

fn schema_meta_row(subsystem: &str, migrations: &Value) -> BlueRow {
    let row = json!({
        "key": "schema_meta",
        "subsystem": subsystem,
        "executed": migrations["executed"],
        "last_executed": migrations["last_executed"],
    });
    let Value::Object(row) = row else { return BlueRow::default() };
    BlueRow { row, ttl: Some(BTreeMap::new()), writetime: None }
}

/// The tables of a folder, by name.
fn tables_in(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let unreadable = || format!("cannot read the fixture {}", directory.display());
    let mut tables = BTreeMap::new();
    for entry in fs::read_dir(directory).context(unreadable)? {
        let path = entry.context(unreadable)?.path();
        if let (Some(stem), Some("jsonl")) = (path.file_stem(), path.extension().and_then(|e| e.to_str())) {
            tables.insert(stem.to_string_lossy().into_owned(), path);
        }
    }
    if tables.is_empty() {
        return Err(Error::new(Kind::Usage, unreadable()).detail("it holds no TABLE.jsonl"));
    }
    Ok(tables)
}

fn read_lines<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))?;
    // Not `lines()`: a carriage return inside a line is not its end.
    let lines = text.split('\n').enumerate().filter(|(_, line)| !line.is_empty());
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).context(|| format!("{}:{}: not a row", path.display(), number + 1))
    };
    lines.map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_without_a_recording_is_reduced_to_its_catalog() {
        let fixture = Fixture::shipped("3.0").unwrap();
        assert!(!fixture.blue.contains_key("keys"), "keys came with 3.1");
        assert!(fixture.blue["plugins"].iter().all(|row| !row.row.contains_key("instance_name")));
        let core = fixture.blue["schema_meta"].iter().find(|row| row.row["subsystem"] == "core").unwrap();
        assert_eq!(core.row["last_executed"], "016_280_to_300");
        assert_eq!(fixture.blue_count("consumers"), 15);
    }

    #[test]
    fn a_directory_without_rows_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Fixture::read(directory.path()).is_err());
    }
}
