//! The rows of one table, from the stage into Kong's table.

use sqlx::PgConnection;

use super::apply_context::ApplyContext;
use super::conditions::{alive, same_key};
use super::sql::{columns, fill};
use super::statement::query_scalar;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

/// What Kong's table may contain before rows are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExistingRows {
    /// Checked in this transaction, which keeps other sessions from writing.
    None,
    Possible,
}

/// The result of applying one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedTable {
    /// Rows of blue that are on green now.
    pub applied: u64,
    /// Those of them that this run wrote.
    pub written: u64,
    /// Rows that expired since the checks.
    pub expired: u64,
    /// Rows that were not inserted because green, in use, has another row in their place; only of `traffic` tables.
    pub held_back: u64,
    /// In an incremental run, rows that green lacked.
    pub inserted: u64,
    /// In an incremental run, rows that differed.
    pub updated: u64,
    /// In an incremental run, rows deleted from green, except expired ones.
    pub deleted: u64,
}

/// Inserts the staged rows of one table that have not expired.
pub(super) async fn insert_rows(
    context: &ApplyContext<'_>,
    tx: &mut PgConnection,
    table: &TablePlan,
    existing: ExistingRows,
) -> sqlx::Result<AppliedTable> {
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    let table_ref = context.stage.kong_table(&table.table);
    let same_key = same_key(&table.key, "g", "s");
    // Searching an empty table for each row doubles the time of a first load.
    let is_new = match existing {
        ExistingRows::None => String::new(),
        ExistingRows::Possible => format!("and not exists (select from {table_ref} g where {same_key})"),
    };
    let on_conflict = match (existing, table.writer) {
        (ExistingRows::Possible, Writer::Traffic) => "on conflict do nothing",
        _ => "",
    };
    let places = [
        ("table_ref", table_ref.as_str()),
        ("stage", &context.stage.table(&table.table)),
        ("columns", &columns(&names, "")),
        ("staged", &columns(&names, "s")),
        ("alive", &alive(table.expiry.as_deref(), "s")),
        ("same_key", &same_key),
        ("is_new", &is_new),
        ("on_conflict", on_conflict),
    ];
    let sql = fill(include_str!("../../sql/apply/insert.sql"), &places);
    let written = sqlx::raw_sql(sql).execute(&mut *tx).await?.rows_affected();
    let mut count = async |sql: &'static str| {
        let count: i64 = query_scalar(fill(sql, &places)).fetch_one(&mut *tx).await?;
        Ok::<_, sqlx::Error>(u64::try_from(count).unwrap_or(0))
    };
    let staged = match (existing, &table.expiry) {
        (ExistingRows::None, None) => written,
        _ => count("select count(*) from {stage} s").await?,
    };
    let unexpired = match (existing, &table.expiry) {
        (ExistingRows::None, _) => written,
        (ExistingRows::Possible, None) => staged,
        (ExistingRows::Possible, Some(_)) => count("select count(*) from {stage} s where {alive}").await?,
    };
    let held_back = match (existing, table.writer) {
        (ExistingRows::Possible, Writer::Traffic) => {
            count(include_str!("../../sql/apply/held_back.sql")).await?
        }
        _ => 0,
    };
    Ok(AppliedTable {
        applied: unexpired - held_back,
        written,
        expired: staged - unexpired,
        held_back,
        ..AppliedTable::default()
    })
}
