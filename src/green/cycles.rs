//! Foreign keys that form a cycle: no table of the cycle can be filled first.
//!
//! Within the applying transaction these foreign keys are made deferrable, checked all at once when every table is
//! filled, and made not deferrable again. That needs no superuser, only the owner of the tables, which Kong's role is. A
//! table that refers to itself needs nothing: its rows are inserted by one statement, and PostgreSQL checks after it.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::session::During;
use super::sql::{fill, literal, quote};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::catalog::green::{ForeignKey, GreenCatalog};
use crate::error::Result;
use crate::mapping::table_plan::KeyspacePlan;

/// A table and the name of one of its foreign keys.
pub type Reference = (String, String);

/// The foreign keys that are part of a cycle of moved tables.
pub fn references(plan: &KeyspacePlan, catalog: &GreenCatalog) -> Vec<Reference> {
    let moved_keys = |table: &str| -> Vec<&ForeignKey> {
        let keys = catalog.tables.get(table).map_or(&[][..], |table| &table.foreign_keys);
        keys.iter().filter(|key| key.parent != table && plan.table(&key.parent).is_some()).collect()
    };
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(table) = open.pop() {
            if table == to {
                return true;
            }
            if seen.insert(table) {
                open.extend(moved_keys(table).iter().map(|key| key.parent.as_str()));
            }
        }
        false
    };
    let mut found = Vec::new();
    for table in &plan.moved {
        let in_cycle = moved_keys(&table.table).into_iter().filter(|key| reaches(&key.parent, &table.table));
        found.extend(in_cycle.map(|key| (table.table.clone(), key.name.clone())));
    }
    found
}

/// Foreign keys that are checked at the end of the transaction.
pub(super) struct Deferred {
    /// Those that are not deferrable outside of this transaction.
    made_deferrable: Vec<Reference>,
}

/// Defers the checks of these foreign keys; `None` where there are none.
pub(super) async fn defer(
    tx: &mut PgConnection,
    stage: &Stage,
    references: Vec<Reference>,
) -> Result<Option<Deferred>> {
    if references.is_empty() {
        return Ok(None);
    }
    let action = "cannot defer the foreign keys of tables that refer to each other in a cycle";
    let mut made_deferrable = Vec::new();
    for (table, name) in references {
        let sql = fill(
            "select condeferrable from pg_constraint where conrelid = {table}::regclass and conname = {name}",
            &[("table", &literal(&stage.kong_table(&table))), ("name", &literal(&name))],
        );
        let deferrable: bool = query_scalar(sql).fetch_one(&mut *tx).await.during(stage.green(), action)?;
        if !deferrable {
            alter(tx, stage, &(table.clone(), name.clone()), "deferrable", action).await?;
            made_deferrable.push((table, name));
        }
    }
    let deferred = sqlx::raw_sql("set constraints all deferred").execute(&mut *tx).await;
    deferred.during(stage.green(), action)?;
    Ok(Some(Deferred { made_deferrable }))
}

/// Checks deferred foreign keys, and makes them not deferrable again.
pub(super) async fn check(tx: &mut PgConnection, stage: &Stage, deferred: Option<Deferred>) -> Result<()> {
    let Some(deferred) = deferred else { return Ok(()) };
    let action =
        "foreign keys of tables that refer to each other in a cycle are violated; nothing was applied";
    let checked = sqlx::raw_sql("set constraints all immediate").execute(&mut *tx).await;
    checked.during(stage.green(), action)?;
    for reference in &deferred.made_deferrable {
        let action = "cannot make a foreign key not deferrable again; nothing was applied";
        alter(tx, stage, reference, "not deferrable", action).await?;
    }
    Ok(())
}

async fn alter(
    tx: &mut PgConnection,
    stage: &Stage,
    (table, name): &Reference,
    deferrability: &str,
    action: &str,
) -> Result<()> {
    let sql = fill(
        "alter table {table} alter constraint {name} {deferrability}",
        &[("table", &stage.kong_table(table)), ("name", &quote(name)), ("deferrability", deferrability)],
    );
    let altered = sqlx::raw_sql(sql).execute(tx).await;
    altered.map(|_| ()).during(stage.green(), format_args!("{action} (\"{name}\" of \"{table}\")"))
}
