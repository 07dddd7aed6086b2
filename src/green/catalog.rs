//! Reads green's catalog from `pg_catalog`, once per run.

use sqlx::{PgConnection, Row};

use super::session::Green;
use super::statement::query;
use crate::catalog::green::{Check, ForeignKey, GreenCatalog, GreenColumn, GreenTable, Index, Trigger};
use crate::error::Result;

impl Green {
    /// Reads the catalog of Kong's schema. Needs no rights beyond connecting.
    pub async fn catalog(&self) -> Result<GreenCatalog> {
        self.read("cannot read green's catalog", async |tx| Ok(read(tx, self.kong_schema()).await?)).await
    }
}

/// Reads the catalog inside a transaction that is already open.
pub async fn read(tx: &mut PgConnection, schema: &str) -> sqlx::Result<GreenCatalog> {
    let mut catalog = GreenCatalog::default();
    read_columns(&mut catalog, tx, schema).await?;
    read_indexes(&mut catalog, tx, schema).await?;
    read_foreign_keys(&mut catalog, tx, schema).await?;
    read_checks(&mut catalog, tx, schema).await?;
    read_triggers(&mut catalog, tx, schema).await?;
    Ok(catalog)
}

async fn read_columns(catalog: &mut GreenCatalog, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let sql = include_str!("../../sql/catalog/columns.sql");
    for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
        let name: String = row.try_get("table_name")?;
        let table =
            catalog.tables.entry(name.clone()).or_insert_with(|| GreenTable { name, ..Default::default() });
        let generated: bool = row.try_get("generated")?;
        let columns = if generated { &mut table.generated } else { &mut table.columns };
        columns.push(GreenColumn {
            name: row.try_get("column_name")?,
            column_type: row.try_get("column_type")?,
            element_oid: u32::try_from(row.try_get::<i64, _>("element_oid")?).unwrap_or(0),
            not_null: row.try_get("not_null")?,
            default: row.try_get("default_expression")?,
        });
    }
    Ok(())
}

async fn read_indexes(catalog: &mut GreenCatalog, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let sql = include_str!("../../sql/catalog/indexes.sql");
    for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
        let Some(table) = catalog.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
        let index = Index {
            name: row.try_get("index_name")?,
            unique: row.try_get("is_unique")?,
            primary: row.try_get("is_primary")?,
            nulls_distinct: row.try_get("nulls_distinct")?,
            expressions: row.try_get("expressions")?,
            columns: row.try_get("columns")?,
            predicate: row.try_get("predicate")?,
            named: row.try_get("named")?,
            included: row.try_get("included")?,
            exclusion: row.try_get("exclusion")?,
            definition: row.try_get("definition")?,
        };
        if index.primary {
            table.primary_key.clone_from(&index.columns);
        }
        table.indexes.push(index);
    }
    catalog.tables.values_mut().for_each(GreenTable::identify_rows);
    Ok(())
}

async fn read_foreign_keys(
    catalog: &mut GreenCatalog,
    tx: &mut PgConnection,
    schema: &str,
) -> sqlx::Result<()> {
    let sql = include_str!("../../sql/catalog/foreign_keys.sql");
    for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
        let Some(table) = catalog.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
        table.foreign_keys.push(ForeignKey {
            name: row.try_get("constraint_name")?,
            columns: row.try_get("columns")?,
            parent: row.try_get("parent_table")?,
            parent_columns: row.try_get("parent_columns")?,
            match_full: row.try_get("match_full")?,
        });
    }
    Ok(())
}

async fn read_checks(catalog: &mut GreenCatalog, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let sql = include_str!("../../sql/catalog/checks.sql");
    for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
        let Some(table) = catalog.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
        table
            .checks
            .push(Check { name: row.try_get("constraint_name")?, expression: row.try_get("expression")? });
    }
    Ok(())
}

async fn read_triggers(catalog: &mut GreenCatalog, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    let sql = include_str!("../../sql/catalog/triggers.sql");
    for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
        let Some(table) = catalog.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
        table.triggers.push(Trigger {
            name: row.try_get("trigger_name")?,
            function: row.try_get("function_name")?,
            enabled: row.try_get("enabled")?,
        });
    }
    Ok(())
}
