//! Blue's tables, as `system_schema` describes them.

use std::collections::BTreeMap;

use crate::catalog::green::GreenTable;
use crate::cql::CqlType;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlueCatalog {
    pub tables: BTreeMap<String, BlueTable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlueTable {
    pub name: String,
    /// Partition key first, then clustering columns, each in key order, then the others by name.
    pub columns: Vec<BlueColumn>,
    /// Seconds after which a cell expires that was written without a TTL; 0 for never.
    pub default_ttl: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlueColumn {
    pub name: String,
    pub kind: ColumnKind,
    pub cql_type: CqlType,
}

/// A column's place in the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ColumnKind {
    /// Part of the partition key, at this position.
    PartitionKey(i32),
    /// A clustering column, at this position.
    Clustering(i32),
    /// One value per partition.
    Static,
    /// One value per row.
    Regular,
}

impl BlueTable {
    pub fn column(&self, name: &str) -> Option<&BlueColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Names of the partition key's columns, in order.
    pub fn partition_key(&self) -> Vec<&str> {
        let is_key = |column: &&BlueColumn| matches!(column.kind, ColumnKind::PartitionKey(_));
        self.columns.iter().filter(is_key).map(|column| column.name.as_str()).collect()
    }
}

/// The column that Kong puts in front of the key of a table which it lists as a whole, and which PostgreSQL does not need.
const PARTITION: &str = "partition";

impl BlueTable {
    /// That column, where it leads the key and green has none; in Kong's own rows it holds the table's name
    /// (docs/kong-data-model.md, 1 "partition").
    pub fn kong_partition(&self, green: &GreenTable) -> Option<&BlueColumn> {
        let leads = self.column(PARTITION).filter(|column| column.kind == ColumnKind::PartitionKey(0))?;
        (leads.cql_type.is("text") && green.column(PARTITION).is_none()).then_some(leads)
    }
}

/// The one partition of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnePartition {
    /// The partition key, which is one column.
    pub column: String,
    /// What it holds in every row that Kong reads.
    pub value: String,
    pub clustering: String,
}

impl BlueTable {
    /// The one partition of Kong's rows, where this column with this value is the whole partition key and ids tell rows
    /// of it apart.
    pub fn one_partition(&self, column: &str, value: &str) -> Option<OnePartition> {
        let is_first = |column: &&BlueColumn| matches!(column.kind, ColumnKind::Clustering(0));
        let clustering = self.columns.iter().find(is_first).filter(|column| column.cql_type.is("uuid"))?;
        let is_key = self.partition_key() == [column];
        is_key.then(|| OnePartition {
            column: column.to_owned(),
            value: value.to_owned(),
            clustering: clustering.name.clone(),
        })
    }
}
