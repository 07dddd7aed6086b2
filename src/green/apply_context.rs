//! What every step of applying knows: the stage, the plan, green's catalog, the schema map and the ledger.

use sqlx::PgConnection;

use super::baseline::Baseline;
use super::ledger::Ledger;
use super::session::{During, Green};
use super::sql::fill;
use super::stage::Stage;
use crate::catalog::green::{GreenCatalog, GreenTable};
use crate::error::{Error, Result};
use crate::mapping::schema_map::SchemaMap;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// How many rows of one table a message names before it only counts.
pub(super) const ROWS_NAMED: usize = 5;

#[derive(Debug, Clone, Copy)]
pub struct ApplyContext<'a> {
    pub stage: &'a Stage,
    pub plan: &'a KeyspacePlan,
    pub catalog: &'a GreenCatalog,
    pub map: &'a SchemaMap,
    /// The rows of green right after its bootstrap, where the operator recorded them.
    pub baseline: Option<&'a Baseline>,
    pub ledger: &'a Ledger,
    /// Whether rows that were changed manually are replaced.
    pub replace: bool,
}

impl<'a> ApplyContext<'a> {
    pub(super) fn green(&self) -> &'a Green {
        self.stage.green()
    }

    pub(super) fn table(&self, name: &str) -> Option<&'a GreenTable> {
        self.catalog.tables.get(name)
    }

    pub(super) fn explain(&self, error: sqlx::Error, action: &str) -> Error {
        self.green().explain(error, action)
    }

    /// A constraint that the checks did not foresee: green is unchanged, and the message names the constraint.
    pub(super) fn refused_by_green(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        let constraint = error
            .as_database_error()
            .and_then(|e| e.constraint().map(|name| format!("The constraint or index is \"{name}\".")));
        let error =
            self.explain(error, &format!("green refuses rows of \"{}\"; nothing was applied", table.table));
        match constraint {
            Some(line) => error.detail(line),
            None => error,
        }
    }

    /// Keeps other sessions from writing until the end of the transaction; readers are not blocked.
    pub(super) async fn lock_tables(&self, tx: &mut PgConnection) -> Result<()> {
        let tables: Vec<String> =
            self.plan.moved.iter().map(|table| self.stage.kong_table(&table.table)).collect();
        let sql = fill(
            "set local lock_timeout = '10s'; lock table {tables} in share row exclusive mode",
            &[("tables", &tables.join(", "))],
        );
        let locked = sqlx::raw_sql(sql).execute(tx).await;
        locked.map(|_| ()).during(self.green(), "cannot lock Kong's tables on green")
    }
}
