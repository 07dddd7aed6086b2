//! Tables that refer to each other in a circle: none of them can be filled first.
//!
//! Within the applying transaction their references are made deferrable, checked all at once when every table is in, and
//! made what they were again. That needs no superuser, only the owner of the tables – as Kong's own role is. A table
//! that refers to itself needs nothing: its rows go in with one statement, and PostgreSQL checks after it.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::sql::{fill, literal, quote};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::green::session::During;
use crate::mapping::table_plan::KeyspacePlan;

/// A reference: its table and its own name.
pub type Reference = (String, String);

/// The references that are part of a circle of moved tables.
pub fn circular(plan: &KeyspacePlan, catalog: &GreenCatalog) -> Vec<Reference> {
    let parents = |table: &str| -> Vec<String> {
        let keys = catalog.tables.get(table).map_or(&[][..], |table| &table.foreign_keys);
        let moved = keys.iter().filter(|key| key.parent != table && plan.table(&key.parent).is_some());
        moved.map(|key| key.parent.clone()).collect()
    };
    let reaches = |from: &str, to: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from.to_owned()];
        while let Some(table) = open.pop() {
            if table == to {
                return true;
            }
            if seen.insert(table.clone()) {
                open.extend(parents(&table));
            }
        }
        false
    };
    let mut found = Vec::new();
    for table in &plan.moved {
        let keys = catalog.tables.get(&table.table).map_or(&[][..], |table| &table.foreign_keys);
        let others = keys.iter().filter(|key| key.parent != table.table && plan.table(&key.parent).is_some());
        let circle = others.filter(|key| reaches(&key.parent, &table.table));
        found.extend(circle.map(|key| (table.table.clone(), key.name.clone())));
    }
    found
}

/// Puts their checks off to the end. Gives back those that must be made what they were.
pub async fn put_off(
    tx: &mut PgConnection,
    stage: &Stage,
    circular: Vec<Reference>,
) -> Result<Vec<Reference>> {
    let what = "cannot put off the checks of tables that refer to each other in a circle";
    let mut changed = Vec::new();
    for (table, name) in circular {
        let sql = fill(
            "select condeferrable from pg_constraint where conrelid = {table}::regclass and conname = {name}",
            &[("table", &literal(&stage.kong_table(&table))), ("name", &literal(&name))],
        );
        let deferrable: bool = query_scalar(sql).fetch_one(&mut *tx).await.during(stage.green(), what)?;
        if !deferrable {
            alter(tx, stage, &(table.clone(), name.clone()), "deferrable", what).await?;
            changed.push((table, name));
        }
    }
    let put_off = sqlx::raw_sql("set constraints all deferred").execute(&mut *tx).await;
    put_off.during(stage.green(), what)?;
    Ok(changed)
}

/// Checks them, and makes them what they were.
pub async fn check(tx: &mut PgConnection, stage: &Stage, changed: Vec<Reference>) -> Result<()> {
    let what =
        "references between tables that refer to each other in a circle do not hold; nothing was applied";
    let checked = sqlx::raw_sql("set constraints all immediate").execute(&mut *tx).await;
    checked.during(stage.green(), what)?;
    for reference in &changed {
        let what = "cannot make a reference what it was; nothing was applied";
        alter(tx, stage, reference, "not deferrable", what).await?;
    }
    Ok(())
}

async fn alter(
    tx: &mut PgConnection,
    stage: &Stage,
    (table, name): &Reference,
    to: &str,
    what: &str,
) -> Result<()> {
    let sql = fill(
        "alter table {table} alter constraint {name} {to}",
        &[("table", &stage.kong_table(table)), ("name", &quote(name)), ("to", to)],
    );
    let done = sqlx::raw_sql(sql).execute(tx).await;
    done.map(|_| ()).during(stage.green(), format_args!("{what} ({table}, {name})"))
}
