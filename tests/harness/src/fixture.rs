//! Rows that were read from a Cassandra and a PostgreSQL, kept in files: `blue/TABLE.jsonl`, `green/TABLE.jsonl`.
//!
//! The format is described in `tests/fixtures/README.md`. Any directory of that format will do.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kongferry::error::{Error, Kind, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, edition, fixtures};
use crate::context::Context;
use crate::enterprise;

/// A pair of recordings, or one side of it.
#[derive(Debug, Clone)]
pub struct Fixture {
    directory: PathBuf,
    pub blue: BTreeMap<String, Vec<BlueRow>>,
    /// Tables whose files have another name.
    renamed: Vec<(&'static str, &'static str)>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(from = "Recorded")]
pub struct BlueRow {
    /// Its columns, as `SELECT JSON` shows them.
    pub row: Map<String, Value>,
    /// Seconds that each cell had left; absent for a table whose cells cannot be asked, and where the table's default
    /// is meant.
    pub ttl: Option<BTreeMap<String, i32>>,
    /// Microseconds at which each cell was written.
    pub writetime: Option<BTreeMap<String, i64>>,
    /// Columns that a second statement writes, without a time to live of its own.
    pub then: Map<String, Value>,
}

/// A line of a file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Recorded {
    row: Map<String, Value>,
    ttl: Option<Ttl>,
    writetime: Option<BTreeMap<String, i64>>,
    #[serde(default)]
    then: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Ttl {
    /// Of the whole row, as in `USING TTL`.
    Row(i32),
    Cells(BTreeMap<String, i32>),
}

impl From<Recorded> for BlueRow {
    fn from(recorded: Recorded) -> BlueRow {
        let Recorded { row, ttl, writetime, then } = recorded;
        let ttl = ttl.map(|ttl| match ttl {
            Ttl::Row(seconds) => row.keys().map(|column| (column.clone(), seconds)).collect(),
            Ttl::Cells(cells) => cells,
        });
        BlueRow { row, ttl, writetime, then }
    }
}

impl Fixture {
    /// Reads `DIRECTORY/blue`. The green side is read when it is asked for.
    pub fn read(directory: &Path) -> Result<Self> {
        let mut blue = BTreeMap::new();
        for (table, path) in tables_in(&directory.join("blue"))? {
            blue.insert(table, read_lines(&path)?);
        }
        Ok(Fixture { directory: directory.to_owned(), ..Fixture::of_blue(blue) })
    }

    /// One side without files.
    pub(crate) fn of_blue(blue: BTreeMap<String, Vec<BlueRow>>) -> Self {
        Fixture { directory: PathBuf::new(), blue, renamed: Vec::new() }
    }

    /// The rows of one of [`LINES`](crate::catalog::LINES). 3.0, 3.1 and 3.2 were never recorded: theirs are those
    /// of 3.3 without the tables and columns that came later, and have no green side. Enterprise's are those of
    /// Enterprise 2.8, upgraded.
    pub fn shipped(line: &str) -> Result<Self> {
        let directory = fixtures().join(line);
        if directory.join("blue").is_dir() {
            return Fixture::read(&directory);
        }
        if edition(line).1 {
            return enterprise::upgraded(line);
        }
        let mut fixture = Fixture::shipped("3.3")?;
        fixture.reduce_to(&Catalog::of(line)?);
        fixture.blue.insert("schema_meta".to_owned(), schema_meta(line)?);
        fixture.directory = directory;
        Ok(fixture)
    }

    /// What Kong wrote to PostgreSQL for the same calls, by table.
    pub fn green(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        let mut rows = read_green(&self.directory.join("green"))?;
        for (from, to) in &self.renamed {
            if let Some(moved) = rows.remove(*from) {
                rows.insert((*to).to_owned(), moved);
            }
        }
        Ok(rows)
    }

    /// Gives a table of both sides the name that it has in another line.
    pub(crate) fn rename(&mut self, from: &'static str, to: &'static str) {
        if let Some(moved) = self.blue.remove(from) {
            self.blue.insert(to.to_owned(), moved);
        }
        self.renamed.push((from, to));
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
pub(crate) fn schema_meta(line: &str) -> Result<Vec<BlueRow>> {
    let unknown = || Error::usage(format!("no migrations of Kong {line} are known"));
    let (version, is_enterprise) = edition(line);
    let subsystems = if is_enterprise {
        read_json("schema_meta-enterprise.json")?[version].take()
    } else {
        let mut all = read_json("schema_meta.json")?;
        let versions = all["versions"].as_object_mut().ok_or_else(unknown)?;
        let release = versions.keys().find(|release| release.starts_with(&format!("{version}."))).cloned();
        versions[&release.ok_or_else(unknown)?].take()
    };
    let row = |(subsystem, migrations): (&String, &Value)| {
        let executed = migrations.get("executed").unwrap_or(migrations);
        schema_meta_row(subsystem, executed)
    };
    Ok(subsystems.as_object().ok_or_else(unknown)?.iter().map(row).collect())
}

fn schema_meta_row(subsystem: &str, executed: &Value) -> BlueRow {
    let last_executed = executed.as_array().and_then(|names| names.last());
    let row = json!({
        "key": "schema_meta",
        "subsystem": subsystem,
        "executed": executed,
        "last_executed": last_executed,
    });
    let Value::Object(row) = row else { return BlueRow::default() };
    BlueRow { row, ttl: Some(BTreeMap::new()), ..BlueRow::default() }
}

fn read_json(file: &str) -> Result<Value> {
    let path = fixtures().join(file);
    let unreadable = || format!("cannot read {}", path.display());
    serde_json::from_slice(&fs::read(&path).context(unreadable)?).context(unreadable)
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
