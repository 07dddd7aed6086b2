//! What green says about its own tables: `pg_catalog`, read once per run.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::session::Green;
use super::statement::query;
use crate::error::Result;

/// The tables of Kong's schema.
#[derive(Debug, Clone, Default)]
pub struct GreenCatalog {
    /// By name.
    pub tables: BTreeMap<String, GreenTable>,
}

/// One table of Kong's schema.
#[derive(Debug, Clone, Default)]
pub struct GreenTable {
    /// Its name.
    pub name: String,
    /// In the order of the table.
    pub columns: Vec<GreenColumn>,
    /// Columns that green computes by itself from their `default`; nobody may write them.
    pub generated: Vec<GreenColumn>,
    /// The primary key's columns, in order; empty where there is none.
    pub primary_key: Vec<String>,
    /// All indexes, the primary key's among them.
    pub indexes: Vec<Index>,
    /// References to other tables.
    pub foreign_keys: Vec<ForeignKey>,
    /// CHECK constraints.
    pub checks: Vec<Check>,
    /// Triggers, but the internal ones of foreign keys.
    pub triggers: Vec<Trigger>,
}

/// One column of a table.
#[derive(Debug, Clone)]
pub struct GreenColumn {
    /// Its name.
    pub name: String,
    /// Its type, as `format_type()` spells it.
    pub column_type: String,
    /// Type of an array's elements, else 0.
    pub element_oid: u32,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Its default, as an expression.
    pub default: Option<String>,
}

/// One index.
#[derive(Debug, Clone, Default)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// Whether it refuses duplicates.
    pub unique: bool,
    /// Whether it is the primary key's.
    pub primary: bool,
    /// Whether two nulls count as different, as they do unless the index says otherwise.
    pub nulls_distinct: bool,
    /// Its key, one expression per part.
    pub expressions: Vec<String>,
    /// The parts that are plain columns; as long as `expressions` when all are.
    pub columns: Vec<String>,
    /// Every column that an entry is made of, for people: also those included, and those within expressions.
    pub named: Vec<String>,
    /// Columns that only ride along in each entry.
    pub included: Vec<String>,
    /// Where two rows may not relate like this rather than be equal: an operator per part.
    pub exclusion: Vec<String>,
    /// The rows it covers, when not all.
    pub predicate: Option<String>,
    /// Its definition, from `USING` on.
    pub definition: String,
}

/// One reference to another table.
#[derive(Debug, Clone, Default)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The referring columns.
    pub columns: Vec<String>,
    /// The table referred to.
    pub parent: String,
    /// The columns referred to, in the same order.
    pub parent_columns: Vec<String>,
    /// Whether a reference is whole or not there at all: `MATCH FULL`.
    pub match_full: bool,
}

/// One trigger.
#[derive(Debug, Clone)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// The function it calls.
    pub function: String,
    /// `O` fires, `D` does not, `R` and `A` are about replication.
    pub enabled: String,
}

/// One CHECK constraint.
#[derive(Debug, Clone)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The condition over the table's columns.
    pub expression: String,
}

impl GreenTable {
    /// Whether one of its triggers calls that function.
    pub fn calls(&self, function: &str) -> bool {
        self.triggers.iter().any(|trigger| trigger.function == function)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&GreenColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether some unique index covers exactly these columns, in any order and for all rows.
    pub fn is_unique_over(&self, columns: &[&str]) -> bool {
        self.indexes.iter().any(|index| {
            index.unique
                && index.exclusion.is_empty()
                && index.predicate.is_none()
                && index.expressions.len() == columns.len()
                && index.columns.len() == columns.len()
                && columns.iter().all(|column| index.columns.iter().any(|own| own == column))
        })
    }
}

impl GreenCatalog {
    /// Reads the catalog of Kong's schema. Needs no rights beyond connecting.
    pub async fn read(green: &Green) -> Result<GreenCatalog> {
        let mut tx = green.begin_snapshot().await?;
        let what = "cannot read green's catalog";
        let catalog =
            GreenCatalog::read_in(&mut tx, green.kong_schema()).await.map_err(|e| green.explain(e, what))?;
        tx.rollback().await.map_err(|e| green.explain(e, what))?;
        Ok(catalog)
    }

    /// Reads the catalog inside a transaction that is already open.
    pub async fn read_in(tx: &mut PgConnection, schema: &str) -> sqlx::Result<GreenCatalog> {
        let mut catalog = GreenCatalog::default();
        catalog.read_columns(tx, schema).await?;
        catalog.read_indexes(tx, schema).await?;
        catalog.read_foreign_keys(tx, schema).await?;
        catalog.read_checks(tx, schema).await?;
        catalog.read_triggers(tx, schema).await?;
        Ok(catalog)
    }

    async fn read_columns(&mut self, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
        let sql = include_str!("../../sql/catalog/columns.sql");
        for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
            let name: String = row.try_get("table_name")?;
            let table =
                self.tables.entry(name.clone()).or_insert_with(|| GreenTable { name, ..Default::default() });
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

    async fn read_indexes(&mut self, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
        let sql = include_str!("../../sql/catalog/indexes.sql");
        for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
            let Some(table) = self.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
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
        Ok(())
    }

    async fn read_foreign_keys(&mut self, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
        let sql = include_str!("../../sql/catalog/foreign_keys.sql");
        for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
            let Some(table) = self.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
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

    async fn read_checks(&mut self, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
        let sql = include_str!("../../sql/catalog/checks.sql");
        for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
            let Some(table) = self.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
            table.checks.push(Check {
                name: row.try_get("constraint_name")?,
                expression: row.try_get("expression")?,
            });
        }
        Ok(())
    }

    async fn read_triggers(&mut self, tx: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
        let sql = include_str!("../../sql/catalog/triggers.sql");
        for row in query(sql).bind(schema).fetch_all(&mut *tx).await? {
            let Some(table) = self.tables.get_mut(row.try_get::<&str, _>("table_name")?) else { continue };
            table.triggers.push(Trigger {
                name: row.try_get("trigger_name")?,
                function: row.try_get("function_name")?,
                enabled: row.try_get("enabled")?,
            });
        }
        Ok(())
    }
}
