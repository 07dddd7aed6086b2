//! The rows of one table, from the stage into Kong's table.

use sqlx::PgConnection;

use super::{AppliedTable, Apply, same_key};
use crate::green::sql::{columns, fill, quote};
use crate::green::statement::query_scalar;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

/// What Kong's table is known to hold before rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::green) enum Holds {
    /// Nothing: that was looked at, in a transaction that lets nobody else write.
    Nothing,
    /// Rows, perhaps those that come.
    Rows,
}

impl Apply<'_> {
    /// Writes what is staged and alive, and says what became of it.
    pub(in crate::green) async fn table(
        &self,
        tx: &mut PgConnection,
        table: &TablePlan,
        holds: Holds,
    ) -> sqlx::Result<AppliedTable> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let alive = match &table.expiry {
            Some(column) => format!("(s.{0} is null or s.{0} > now())", quote(column)),
            None => "true".to_owned(),
        };
        let table_ref = self.stage.kong_table(&table.table);
        let same_key = same_key(table);
        // To look into an empty table for each row doubles the time of a first load.
        let is_new = match holds {
            Holds::Nothing => String::new(),
            Holds::Rows => format!("and not exists (select from {table_ref} g where {same_key})"),
        };
        let on_conflict = match (holds, table.writer) {
            (Holds::Rows, Writer::Traffic) => "on conflict do nothing",
            _ => "",
        };
        let places = [
            ("table_ref", table_ref.as_str()),
            ("stage", &self.stage.table(&table.table)),
            ("columns", &columns(&names, "")),
            ("staged", &columns(&names, "s")),
            ("alive", &alive),
            ("same_key", &same_key),
            ("is_new", &is_new),
            ("on_conflict", on_conflict),
        ];
        let sql = fill(include_str!("../../../sql/apply/insert.sql"), &places);
        let written = sqlx::raw_sql(sql).execute(&mut *tx).await?.rows_affected();
        let mut count = async |sql: &'static str| {
            let count: i64 = query_scalar(fill(sql, &places)).fetch_one(&mut *tx).await?;
            Ok::<_, sqlx::Error>(u64::try_from(count).unwrap_or(0))
        };
        let staged = match (holds, &table.expiry) {
            (Holds::Nothing, None) => written,
            _ => count("select count(*) from {stage} s").await?,
        };
        let living = match (holds, &table.expiry) {
            (Holds::Nothing, _) => written,
            (Holds::Rows, None) => staged,
            (Holds::Rows, Some(_)) => count("select count(*) from {stage} s where {alive}").await?,
        };
        let held_back = match (holds, table.writer) {
            (Holds::Rows, Writer::Traffic) => count(include_str!("../../../sql/apply/held_back.sql")).await?,
            _ => 0,
        };
        Ok(AppliedTable {
            applied: living - held_back,
            written,
            expired: staged - living,
            held_back,
            ..AppliedTable::default()
        })
    }
}
