//! What blue says about its own tables: `system_schema`, and Kong's own record of its migrations.

use std::collections::BTreeMap;

use super::cql_type::CqlType;
use super::session::Blue;
use crate::error::Result;

/// The tables of the keyspace.
#[derive(Debug, Clone, Default)]
pub struct BlueCatalog {
    /// By name.
    pub tables: BTreeMap<String, BlueTable>,
}

/// One table of the keyspace.
#[derive(Debug, Clone)]
pub struct BlueTable {
    /// Its name.
    pub name: String,
    /// Partition key first, then clustering columns, each in key order, then the others by name.
    pub columns: Vec<BlueColumn>,
}

/// One column of a table.
#[derive(Debug, Clone)]
pub struct BlueColumn {
    /// Its name.
    pub name: String,
    /// Its place in the key.
    pub kind: ColumnKind,
    /// Its type.
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
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&BlueColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Names of the partition key's columns, in order.
    pub fn partition_key(&self) -> Vec<&str> {
        let is_key = |column: &&BlueColumn| matches!(column.kind, ColumnKind::PartitionKey(_));
        self.columns.iter().filter(is_key).map(|column| column.name.as_str()).collect()
    }
}

impl BlueCatalog {
    /// Reads the catalog of the session's keyspace. Needs SELECT on `system_schema`, which every role has.
    pub async fn read(blue: &Blue) -> Result<BlueCatalog> {
        let query = "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = ?";
        let rows = blue
            .rows::<(String, String, String, i32, String)>(
                query,
                (blue.keyspace(),),
                "cannot read the catalog of blue",
            )
            .await?;
        let mut catalog = BlueCatalog::default();
        for (table, name, kind, position, cql_type) in rows {
            let columns = &mut catalog
                .tables
                .entry(table.clone())
                .or_insert_with(|| BlueTable { name: table, columns: Vec::new() })
                .columns;
            columns.push(BlueColumn {
                name,
                kind: ColumnKind::parse(&kind, position),
                cql_type: CqlType::parse(&cql_type),
            });
        }
        for table in catalog.tables.values_mut() {
            table.columns.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        }
        Ok(catalog)
    }
}

impl ColumnKind {
    fn parse(kind: &str, position: i32) -> ColumnKind {
        match kind {
            "partition_key" => ColumnKind::PartitionKey(position),
            "clustering" => ColumnKind::Clustering(position),
            "static" => ColumnKind::Static,
            _ => ColumnKind::Regular,
        }
    }
}
