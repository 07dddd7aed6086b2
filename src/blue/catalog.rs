//! Reads blue's catalog from `system_schema`.

use super::session::Blue;
use crate::catalog::blue::{BlueCatalog, BlueColumn, BlueTable, ColumnKind};
use crate::cql::CqlType;
use crate::error::Result;

impl Blue {
    /// Reads the catalog of the session's keyspace. Needs SELECT on `system_schema`, which every role has.
    pub async fn catalog(&self) -> Result<BlueCatalog> {
        let query = "SELECT table_name, column_name, kind, position, type FROM system_schema.columns WHERE keyspace_name = ?";
        let rows = self
            .rows::<(String, String, String, i32, String)>(
                query,
                (self.keyspace(),),
                "cannot read blue's catalog",
            )
            .await?;
        let mut catalog = BlueCatalog::default();
        for (table, name, kind, position, cql_type) in rows {
            let columns = &mut catalog
                .tables
                .entry(table.clone())
                .or_insert_with(|| BlueTable { name: table, columns: Vec::new(), default_ttl: 0 })
                .columns;
            columns.push(BlueColumn {
                name,
                kind: column_kind(&kind, position),
                cql_type: CqlType::parse(&cql_type),
            });
        }
        for (table, default_ttl) in self.default_ttls().await? {
            if let Some(table) = catalog.tables.get_mut(&table) {
                table.default_ttl = default_ttl;
            }
        }
        for table in catalog.tables.values_mut() {
            table.columns.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        }
        Ok(catalog)
    }

    /// Names of tables, with the seconds after which a cell expires that was written without a TTL.
    async fn default_ttls(&self) -> Result<Vec<(String, i32)>> {
        let query =
            "SELECT table_name, default_time_to_live FROM system_schema.tables WHERE keyspace_name = ?";
        let rows = self
            .rows::<(String, Option<i32>)>(query, (self.keyspace(),), "cannot read blue's catalog")
            .await?;
        Ok(rows.into_iter().map(|(table, seconds)| (table, seconds.unwrap_or(0))).collect())
    }
}

fn column_kind(kind: &str, position: i32) -> ColumnKind {
    match kind {
        "partition_key" => ColumnKind::PartitionKey(position),
        "clustering" => ColumnKind::Clustering(position),
        "static" => ColumnKind::Static,
        _ => ColumnKind::Regular,
    }
}
