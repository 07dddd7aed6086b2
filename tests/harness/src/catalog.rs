//! Kong's tables on Cassandra, made from the catalogs that Kong itself left.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::{Error, Result};
use scylla::client::session::Session;
use serde::Deserialize;

use crate::context::Context;

/// Every line of Kong versions that there is a catalog of.
pub const LINES: &[&str] = &[
    "2.8",
    "3.0",
    "3.1",
    "3.2",
    "3.3",
    "enterprise-2.8",
    "enterprise-3.0",
    "enterprise-3.1",
    "enterprise-3.2",
    "enterprise-3.3",
];

/// Statements that are under way at once. Cassandra applies changes of the schema one by one; more than a few only
/// wait there.
const CONCURRENCY: usize = 4;

/// The tables of one line of Kong versions on Cassandra. Holds no rows and says nothing about PostgreSQL.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Catalog {
    pub tables: BTreeMap<String, Table>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Table {
    /// Its columns, keys included, in no order that matters.
    pub columns: Vec<Column>,
    /// Its secondary indexes.
    pub indexes: Vec<Index>,
    /// The options that Kong or Cassandra gave it.
    pub options: TableOptions,
}

/// One column, in the words of `system_schema.columns`.
#[derive(Debug, Clone, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub cql_type: String,
    /// `partition_key`, `clustering`, `static` or `regular`.
    pub kind: String,
    /// Its place among the columns of that kind, for keys.
    pub position: i32,
    /// `asc` or `desc` for clustering columns.
    pub clustering_order: String,
}

/// A secondary index.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    pub name: String,
    /// Holds the `target`.
    pub options: BTreeMap<String, String>,
}

/// Options of a table that make a difference to a migration.
#[derive(Debug, Clone, Deserialize)]
pub struct TableOptions {
    /// Seconds that a row lives if the writer does not say; 0 is forever.
    pub default_time_to_live: i32,
    /// Seconds that a deletion is remembered.
    pub gc_grace_seconds: i32,
    pub compaction: BTreeMap<String, String>,
    pub comment: String,
}

#[derive(Debug, Clone, Copy)]
pub struct KeyspaceOptions {
    /// Copies of each row. Above the number of nodes, reads at ALL and QUORUM fail.
    pub replication_factor: u32,
    /// Whether to make the secondary indexes, which takes several times as long as the tables and which only
    /// Kong needs.
    pub indexes: bool,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        KeyspaceOptions { replication_factor: 1, indexes: false }
    }
}

impl Catalog {
    /// The catalog of one of [`LINES`].
    pub fn of(line: &str) -> Result<Self> {
        let path = fixtures().join("catalog").join(line).join("cassandra.json");
        if path.is_file() {
            return Catalog::read(&path);
        }
        Err(Error::usage(format!("there is no catalog of Kong {line}"))
            .remedy(format!("use one of {LINES:?}")))
    }

    /// Reads a catalog of the same format.
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = || format!("cannot read the catalog {}", path.display());
        serde_json::from_slice(&fs::read(path).context(unreadable)?).context(unreadable)
    }

    /// Makes a keyspace with all tables, empty.
    pub async fn create(&self, session: &Session, keyspace: &str, options: KeyspaceOptions) -> Result<()> {
        let create = format!(
            "CREATE KEYSPACE {} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': {}}}",
            quote(keyspace),
            options.replication_factor
        );
        run(session, create).await?;
        let tables = self.tables.iter().map(|(name, table)| create_table(keyspace, name, table));
        run_all(session, tables).await?;
        if options.indexes {
            let indexes = self.tables.iter().flat_map(|(name, table)| create_indexes(keyspace, name, table));
            run_all(session, indexes).await?;
        }
        // The sessions of the harness do not wait after each statement; a cluster of several nodes may need it.
        session.await_schema_agreement().await.context(|| "Cassandra's nodes do not agree".to_owned())?;
        Ok(())
    }
}

impl Table {
    /// The columns of the primary key, in its order.
    pub fn key(&self) -> Vec<&Column> {
        [self.of_kind("partition_key"), self.of_kind("clustering")].concat()
    }

    fn of_kind(&self, kind: &str) -> Vec<&Column> {
        let mut columns: Vec<&Column> = self.columns.iter().filter(|column| column.kind == kind).collect();
        columns.sort_by_key(|column| column.position);
        columns
    }
}

/// The version of one of [`LINES`], and whether it is Enterprise's.
pub fn edition(line: &str) -> (&str, bool) {
    line.strip_prefix("enterprise-").map_or((line, false), |version| (version, true))
}

/// The folder `tests/fixtures` of this repository.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

/// A name as CQL takes it, whatever it holds.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn create_table(keyspace: &str, name: &str, table: &Table) -> String {
    let mut columns: Vec<String> = Vec::new();
    for column in &table.columns {
        let suffix = if column.kind == "static" { " static" } else { "" };
        columns.push(format!("{} {}{suffix}", quote(&column.name), column.cql_type));
    }
    let names = |kind| table.of_kind(kind).iter().map(|column| quote(&column.name)).collect::<Vec<_>>();
    let clustering = names("clustering");
    let key = [vec![format!("({})", names("partition_key").join(", "))], clustering].concat().join(", ");
    format!(
        "CREATE TABLE {}.{} ({}, PRIMARY KEY ({key})) WITH {}",
        quote(keyspace),
        quote(name),
        columns.join(", "),
        table_options(table)
    )
}

fn table_options(table: &Table) -> String {
    let options = &table.options;
    let compaction: Vec<String> = options
        .compaction
        .iter()
        .map(|(key, value)| format!("{}: {}", literal(key), literal(value)))
        .collect();
    let mut text = format!(
        "default_time_to_live = {} AND gc_grace_seconds = {} AND comment = {} AND compaction = {{{}}}",
        options.default_time_to_live,
        options.gc_grace_seconds,
        literal(&options.comment),
        compaction.join(", ")
    );
    let order: Vec<String> = (table.of_kind("clustering").iter())
        .map(|column| format!("{} {}", quote(&column.name), column.clustering_order))
        .collect();
    if !order.is_empty() {
        text.push_str(&format!(" AND CLUSTERING ORDER BY ({})", order.join(", ")));
    }
    text
}

fn create_indexes(keyspace: &str, name: &str, table: &Table) -> Vec<String> {
    let target = |index: &Index| index.options.get("target").map(|target| quote(target)).unwrap_or_default();
    let create = |index: &Index| {
        let (index_name, target) = (quote(&index.name), target(index));
        format!("CREATE INDEX {index_name} ON {}.{} ({target})", quote(keyspace), quote(name))
    };
    table.indexes.iter().map(create).collect()
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

async fn run_all(session: &Session, statements: impl Iterator<Item = String>) -> Result<()> {
    let running = statements.map(|statement| run(session, statement));
    stream::iter(running).buffer_unordered(CONCURRENCY).try_collect().await
}

async fn run(session: &Session, statement: String) -> Result<()> {
    let result = session.query_unpaged(statement.as_str(), ()).await;
    result.map(|_| ()).context(|| format!("Cassandra refuses: {statement}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_tables_have_the_keys_and_options_of_the_catalog() {
        let catalog = Catalog::of("3.3").unwrap();
        let cql = create_table("k", "cluster_events", &catalog.tables["cluster_events"]);
        assert!(cql.contains("PRIMARY KEY ((\"channel\"), \"at\", \"node_id\", \"id\")"), "{cql}");
        assert!(cql.contains("default_time_to_live = 86400"), "{cql}");
        assert!(cql.contains("CLUSTERING ORDER BY (\"at\" asc, \"node_id\" asc, \"id\" asc)"), "{cql}");
    }

    #[test]
    fn every_version_has_a_catalog_and_an_unknown_one_is_reported() {
        for line in LINES {
            assert!(Catalog::of(line).unwrap().tables.contains_key("schema_meta"));
        }
        assert!(Catalog::of("9.9").unwrap_err().message().contains("9.9"));
    }
}
