//! Rows that green's own bootstrap made: which they are, and how they give way to blue's.
//!
//! They are known by name in the schema map, with the rows that refer to them, or by a [`Baseline`] that was taken right
//! after the bootstrap. Every other row on green was made by somebody.

use sqlx::PgConnection;

use super::baseline::Baseline;
use super::ledger::{self, Ledger};
use super::sql::{columns, fill, key, literal, quote};
use super::stage::Stage;
use crate::catalog::green::{ForeignKey, GreenCatalog};
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
    /// What earlier runs wrote: blue's, whatever it is called.
    pub ledger: &'a Ledger,
}

impl Bootstrap<'_> {
    /// The condition under which a row `g` of a table was made by the bootstrap.
    pub fn made(&self, table: &TablePlan) -> String {
        any(self.kept(&table.table).map(|row| is(row, "g")).chain(self.removed(table)).collect())
    }

    /// The condition under which a row `g` that no run wrote leaves green in a run after the first one, or in one that
    /// replaces everything: then it need not be the bootstrap's.
    pub fn leaves(&self, table: &TablePlan, replace: bool) -> Option<String> {
        let by_itself = if replace { vec!["true".to_owned()] } else { self.removed(table) };
        let gives_way = self.kept(&table.table).map(|row| self.gives_way(table, row));
        let stays: Vec<String> =
            self.kept(&table.table).map(|row| format!(" and not {}", is(row, "g"))).collect();
        let goes = (!by_itself.is_empty()).then(|| format!("(({}){})", any(by_itself), stays.concat()));
        let all: Vec<String> = goes.into_iter().chain(gives_way).collect();
        (!all.is_empty()).then(|| any(all))
    }

    /// That a row `g` which stays where blue has none of the same meaning goes, because blue has one with another key.
    fn gives_way(&self, table: &TablePlan, row: &BootstrapRow) -> String {
        format!(
            "({} and exists (select from {} s where s.{}::text = {}))",
            is(row, "g"),
            self.stage.table(&table.table),
            quote(&row.column),
            literal(&row.value)
        )
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
        for table in self.plan.moved.iter().rev() {
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

    /// Rows that take blue's values or go for blue's, and stay where blue has none of the same meaning.
    fn kept<'t>(&'t self, table: &'t str) -> impl Iterator<Item = &'t BootstrapRow> {
        self.named(table).filter(|row| row.if_missing == IfMissing::Keep)
    }

    /// Conditions of rows that go, whether blue has one of the same name or not. A row with the key of one of blue's is
    /// blue's own, from a run before; and once a run has filled a table, nothing in it is the bootstrap's any more.
    fn removed(&self, table: &TablePlan) -> Vec<String> {
        let conditions = self.made_here(table);
        if conditions.is_empty() || !self.ledger.knows(&table.table) {
            return conditions;
        }
        let ledger = ledger::relation(self.stage.green(), &table.table);
        vec![format!("(({}) and not exists (select from {ledger}))", any(conditions))]
    }

    fn made_here(&self, table: &TablePlan) -> Vec<String> {
        let not_blues = self.not_blues(table, "g");
        let own = self.named(&table.table).filter(|row| row.if_missing == IfMissing::Remove);
        let mut conditions: Vec<String> =
            own.map(|row| format!("({} and {not_blues})", is(row, "g"))).collect();
        conditions.extend(self.made_with(table));
        conditions.extend(self.of_baseline(table).map(|known| format!("({known} and {not_blues})")));
        conditions
    }

    fn not_blues(&self, table: &TablePlan, alias: &str) -> String {
        let mut condition = format!(
            "not exists (select from {} s where {})",
            self.stage.table(&table.table),
            same_key(table, alias)
        );
        if self.ledger.knows(&table.table) {
            // In a run after the first one only what changed is staged.
            let ledger = ledger::relation(self.stage.green(), &table.table);
            let same = ledger::same_key(table, "l", alias);
            condition.push_str(&format!(" and not exists (select from {ledger} l where {same})"));
        }
        condition
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
        let named: Vec<String> =
            self.kept(&table.table).map(|row| format!(" and not {}", is(row, "g"))).collect();
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
