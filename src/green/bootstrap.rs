//! Rows that green's own bootstrap made: which they are, and how they are replaced by blue's.
//!
//! They are identified by name in the schema map, with the rows that refer to them, or by a
//! [`Baseline`](super::baseline::Baseline) that was recorded right after the bootstrap. Every other row on green was made
//! later.

use sqlx::PgConnection;

use super::apply_context::ApplyContext;
use super::conditions::{any, same_key, same_numbered_key, same_row};
use super::ledger;
use super::sql::{columns, fill, key, literal, quote};
use crate::catalog::green::ForeignKey;
use crate::mapping::schema_map::{BootstrapRow, IfMissing};
use crate::mapping::table_plan::TablePlan;

#[derive(Debug, Clone, Copy)]
pub struct BootstrapRows<'a>(pub ApplyContext<'a>);

impl BootstrapRows<'_> {
    /// The condition under which a row `g` of a table was made by the bootstrap.
    pub fn is_bootstrap_row(&self, table: &TablePlan) -> String {
        let kept = self.kept(&table.table).map(|row| is_row(row, "g"));
        any(&kept.chain(self.removed(table)).collect::<Vec<_>>())
    }

    /// The condition under which a row `g` that no run wrote is deleted from green in a run after the first one, or in
    /// one that replaces all local changes: then it need not be the bootstrap's.
    pub fn is_deleted(&self, table: &TablePlan) -> Option<String> {
        let removed = if self.0.replace { vec!["true".to_owned()] } else { self.removed(table) };
        let replaced = self.kept(&table.table).map(|row| self.is_replaced(table, row));
        let kept: Vec<String> =
            self.kept(&table.table).map(|row| format!(" and not {}", is_row(row, "g"))).collect();
        let removed = (!removed.is_empty()).then(|| format!("(({}){})", any(&removed), kept.concat()));
        let all: Vec<String> = removed.into_iter().chain(replaced).collect();
        (!all.is_empty()).then(|| any(&all))
    }

    /// That a row `g` which is kept where blue has none of the same meaning is deleted, because blue has one with
    /// another key.
    fn is_replaced(&self, table: &TablePlan, row: &BootstrapRow) -> String {
        format!(
            "({} and exists (select from {} s where s.{}::text = {}))",
            is_row(row, "g"),
            self.0.stage.table(&table.table),
            quote(&row.column),
            literal(&row.value)
        )
    }

    /// Replaces them on green: a row with the same key takes blue's values, one with another key is deleted.
    pub async fn replace_all(&self, tx: &mut PgConnection) -> sqlx::Result<()> {
        // Children first: a row that refers to a bootstrap row is identified by it.
        for table in self.0.plan.moved.iter().rev() {
            let removed = self.removed(table);
            if !removed.is_empty() {
                let sql = fill(
                    "delete from {table_ref} g where {removed}",
                    &[("table_ref", &self.0.stage.kong_table(&table.table)), ("removed", &any(&removed))],
                );
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
        }
        // After them, because the default workspace is the parent of all.
        for table in self.0.plan.moved.iter().rev() {
            for row in self.kept(&table.table) {
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
            include_str!("../../sql/apply/replace_bootstrap_row.sql"),
            &[
                ("table_ref", &self.0.stage.kong_table(&table.table)),
                ("stage", &self.0.stage.table(&table.table)),
                ("columns", &columns(&names, "")),
                ("staged", &columns(&names, "s")),
                ("same_key", &same_key(&table.key, "g", "s")),
                ("column", &quote(&row.column)),
                ("value", &literal(&row.value)),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    fn named<'t>(&'t self, table: &'t str) -> impl Iterator<Item = &'t BootstrapRow> {
        self.0.map.bootstrap.iter().filter(move |row| row.table == table)
    }

    /// Rows that take blue's values or are replaced by blue's, and are kept where blue has none of the same meaning.
    fn kept<'t>(&'t self, table: &'t str) -> impl Iterator<Item = &'t BootstrapRow> {
        self.named(table).filter(|row| row.if_missing == IfMissing::Keep)
    }

    /// Conditions of rows that are deleted, whether blue has one of the same name or not. A row with the key of one of
    /// blue's is blue's own, from an earlier run; and once a run has filled a table, no row in it is the bootstrap's.
    fn removed(&self, table: &TablePlan) -> Vec<String> {
        let conditions = self.made_by_bootstrap(table);
        if conditions.is_empty() || !self.0.ledger.contains(&table.table) {
            return conditions;
        }
        let ledger = ledger::relation(self.0.green(), &table.table);
        vec![format!("(({}) and not exists (select from {ledger}))", any(&conditions))]
    }

    fn made_by_bootstrap(&self, table: &TablePlan) -> Vec<String> {
        let not_on_blue = self.not_on_blue(table, "g");
        let removed = self.named(&table.table).filter(|row| row.if_missing == IfMissing::Remove);
        let mut conditions: Vec<String> =
            removed.map(|row| format!("({} and {not_on_blue})", is_row(row, "g"))).collect();
        conditions.extend(self.refers_to_bootstrap_row(table));
        let replaced = self.differs_from_blue(table);
        conditions.extend(self.in_baseline(table).map(|known| format!("({known} and {replaced})")));
        conditions
    }

    /// Before a first run also a row with the key of one of blue's: both bootstraps make some rows under the same fixed key.
    fn differs_from_blue(&self, table: &TablePlan) -> String {
        if self.0.ledger.contains(&table.table) {
            return self.not_on_blue(table, "g");
        }
        format!("not exists (select from {} s where {})", self.0.stage.table(&table.table), same_row(table))
    }

    fn not_on_blue(&self, table: &TablePlan, alias: &str) -> String {
        let stage = self.0.stage.table(&table.table);
        let mut condition =
            format!("not exists (select from {stage} s where {})", same_key(&table.key, alias, "s"));
        if self.0.ledger.contains(&table.table) {
            // In a run after the first one only rows that differ are staged.
            let ledger = ledger::relation(self.0.green(), &table.table);
            let same = same_numbered_key(&table.key, "l", alias);
            condition.push_str(&format!(" and not exists (select from {ledger} l where {same})"));
        }
        condition
    }

    /// Rows that refer to a bootstrap row that is deleted, in the tables that the bootstrap fills along with it.
    fn refers_to_bootstrap_row(&self, table: &TablePlan) -> Vec<String> {
        let keys: &[ForeignKey] = self.0.table(&table.table).map_or(&[], |table| &table.foreign_keys);
        let mut conditions = Vec::new();
        for row in self.0.map.bootstrap.iter().filter(|row| row.with.contains(&table.table)) {
            let Some(parent) = self.0.plan.table(&row.table) else { continue };
            for reference in keys.iter().filter(|key| key.parent == row.table) {
                let pairs = reference.columns.iter().zip(&reference.parent_columns);
                let joined: Vec<String> = pairs
                    .map(|(child, parent)| format!("p.{} = g.{}", quote(parent), quote(child)))
                    .collect();
                conditions.push(format!(
                    "exists (select from {} p where {} and {} and {})",
                    self.0.stage.kong_table(&row.table),
                    joined.join(" and "),
                    is_row(row, "p"),
                    self.not_on_blue(parent, "p"),
                ));
            }
        }
        conditions
    }

    /// Rows of the baseline that were not changed since; those that the schema map names follow the map.
    fn in_baseline(&self, table: &TablePlan) -> Option<String> {
        let rows = self.0.baseline?.tables.get(&table.table).filter(|rows| !rows.is_empty())?;
        let primary = &self.0.table(&table.table)?.primary_key;
        let values: Vec<String> =
            rows.iter().map(|row| format!("({}, {})", literal(&row.key), literal(&row.digest))).collect();
        let not_named: Vec<String> =
            self.kept(&table.table).map(|row| format!(" and not {}", is_row(row, "g"))).collect();
        Some(format!(
            "({}::text, {}) in ({}){}",
            key(primary, "g"),
            super::baseline::digest("g"),
            values.join(", "),
            not_named.concat()
        ))
    }
}

/// That a row is the one that this entry of the schema map names.
fn is_row(row: &BootstrapRow, alias: &str) -> String {
    format!("{alias}.{}::text = {}", quote(&row.column), literal(&row.value))
}
