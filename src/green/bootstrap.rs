//! Rows that green's own bootstrap made: which they are, and how they give way to blue's.
//!
//! They are known by name in the schema map, with the rows that refer to them, or by a [`Baseline`] that was taken right
//! after the bootstrap. Every other row on green was made by somebody.

use sqlx::PgConnection;

use super::baseline::Baseline;
use super::catalog::{ForeignKey, GreenCatalog};
use super::sql::{columns, fill, key, literal, quote};
use super::stage::Stage;
use crate::mapping::schema_map::{BootstrapRow, IfMissing, SchemaMap};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// Everything that tells such a row.
#[derive(Debug, Clone, Copy)]
pub struct Bootstrap<'a> {
    /// What blue has.
    pub stage: &'a Stage,
    /// What is moved.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// Rows known by name.
    pub map: &'a SchemaMap,
    /// Rows known by having been there right after the bootstrap.
    pub baseline: Option<&'a Baseline>,
}

impl Bootstrap<'_> {
    /// The condition under which a row `g` of a table was made by the bootstrap.
    pub fn made(&self, table: &TablePlan) -> String {
        let kept = self.named(&table.table).filter(|row| row.if_missing == IfMissing::Keep);
        any(kept.map(|row| is(row, "g")).chain(self.removed(table)).collect())
    }

    /// Takes them off green: same key, new values; another key, gone.
    pub async fn make_room(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        // Children first: what a row was made with is known only while that row stands.
        for table in self.plan.moved.iter().rev() {
            let removed = self.removed(table);
            if !removed.is_empty() {
                let sql = fill(
                    "delete from {table_ref} g where {removed}",
                    &[("table_ref", &self.stage.kong_table(&table.table)), ("removed", &any(removed))],
                );
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
        }
        // After them, because the default workspace is the parent of all.
        self.replace_kept(tx).await
    }

    /// Rows that stay where blue has none of the same meaning take blue's values, or go for blue's.
    ///
    /// All that an incremental run does: its stage holds only what changed, so a row that is not in it may be blue's.
    pub async fn replace_kept(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        for table in self.plan.moved.iter().rev() {
            for row in self.named(&table.table).filter(|row| row.if_missing == IfMissing::Keep) {
                self.replace(tx, table, row).await?;
            }
        }
        Ok(())
    }

    async fn replace(
        &self,
        tx: &mut PgConnection,
        table: &TablePlan,
        row: &BootstrapRow,
    ) -> sqlx::Result<()> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let sql = fill(
            include_str!("../../sql/apply/make_room.sql"),
            &[
                ("table_ref", &self.stage.kong_table(&table.table)),
                ("stage", &self.stage.table(&table.table)),
                ("columns", &columns(&names, "")),
                ("staged", &columns(&names, "s")),
                ("same_key", &same_key(table, "g")),
                ("column", &quote(&row.column)),
                ("value", &literal(&row.value)),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    fn named<'t>(&'t self, table: &'t str) -> impl Iterator<Item = &'t BootstrapRow> {
        self.map.bootstrap.iter().filter(move |row| row.table == table)
    }

    /// Conditions of rows that go, whether blue has one of the same name or not. A row with the key of one of blue's is
    /// blue's own, from a run before.
    fn removed(&self, table: &TablePlan) -> Vec<String> {
        let not_blues = self.not_blues(table, "g");
        let own = self.named(&table.table).filter(|row| row.if_missing == IfMissing::Remove);
        let mut conditions: Vec<String> =
            own.map(|row| format!("({} and {not_blues})", is(row, "g"))).collect();
        conditions.extend(self.made_with(table));
        conditions.extend(self.of_baseline(table).map(|known| format!("({known} and {not_blues})")));
        conditions
    }

    fn not_blues(&self, table: &TablePlan, alias: &str) -> String {
        format!(
            "not exists (select from {} s where {})",
            self.stage.table(&table.table),
            same_key(table, alias)
        )
    }

    /// Rows that refer to one that goes, in the tables that are filled along with it.
    fn made_with(&self, table: &TablePlan) -> Vec<String> {
        let keys: &[ForeignKey] =
            self.catalog.tables.get(&table.table).map_or(&[], |table| &table.foreign_keys);
        let mut conditions = Vec::new();
        for row in self.map.bootstrap.iter().filter(|row| row.with.contains(&table.table)) {
            let Some(parent) = self.plan.table(&row.table) else { continue };
            for reference in keys.iter().filter(|key| key.parent == row.table) {
                let pairs = reference.columns.iter().zip(&reference.parent_columns);
                let joined: Vec<String> =
                    pairs.map(|(own, other)| format!("p.{} = g.{}", quote(other), quote(own))).collect();
                conditions.push(format!(
                    "exists (select from {} p where {} and {} and {})",
                    self.stage.kong_table(&row.table),
                    joined.join(" and "),
                    is(row, "p"),
                    self.not_blues(parent, "p"),
                ));
            }
        }
        conditions
    }

    /// Rows that stood there right after the bootstrap and were not changed since; those known by name follow the map.
    fn of_baseline(&self, table: &TablePlan) -> Option<String> {
        let rows = self.baseline?.tables.get(&table.table).filter(|rows| !rows.is_empty())?;
        let primary = &self.catalog.tables.get(&table.table)?.primary_key;
        let values: Vec<String> =
            rows.iter().map(|row| format!("({}, {})", literal(&row.key), literal(&row.digest))).collect();
        let named: Vec<String> = self
            .named(&table.table)
            .filter(|row| row.if_missing == IfMissing::Keep)
            .map(|row| format!(" and not {}", is(row, "g")))
            .collect();
        Some(format!(
            "({}::text, {}) in ({}){}",
            key(primary, "g"),
            super::baseline::digest("g"),
            values.join(", "),
            named.concat()
        ))
    }
}

/// Whether a row is the one that this entry names.
fn is(row: &BootstrapRow, alias: &str) -> String {
    format!("{alias}.{}::text = {}", quote(&row.column), literal(&row.value))
}

fn any(conditions: Vec<String>) -> String {
    if conditions.is_empty() { "false".to_owned() } else { conditions.join(" or ") }
}

fn same_key(table: &TablePlan, alias: &str) -> String {
    let one = |name: &String| format!("{alias}.{0} = s.{0}", quote(name));
    if table.key.is_empty() {
        "false".to_owned()
    } else {
        table.key.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}
