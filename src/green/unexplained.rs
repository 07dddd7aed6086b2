//! Rows on green before a first run that are neither bootstrap rows nor on blue: with them green is not empty.

use sqlx::PgConnection;

use super::apply_context::{ApplyContext, ROWS_NAMED};
use super::bootstrap::BootstrapRows;
use super::conditions::same_row;
use super::session::During;
use super::sql::{fill, key};
use super::statement::query_scalar;
use crate::error::{Error, Result};
use crate::mapping::schema_map::Writer;

#[derive(Debug, Clone)]
pub struct UnexplainedRows {
    pub table: String,
    /// The keys of some of them, as JSON text.
    pub keys: Vec<String>,
    pub has_more: bool,
}

/// Finds such rows in `admin` tables, and in tables that only green has.
pub async fn find(context: &ApplyContext<'_>, tx: &mut PgConnection) -> Result<Vec<UnexplainedRows>> {
    let mut found = Vec::new();
    let is_checked = |writer: Writer, key: &[String]| writer == Writer::Admin && !key.is_empty();
    for table in context.plan.moved.iter().filter(|table| is_checked(table.writer, &table.key)) {
        let sql = fill(
            include_str!("../../sql/apply/unexplained.sql"),
            &[
                ("key", &key(&table.key, "g")),
                ("table_ref", &context.stage.kong_table(&table.table)),
                ("stage", &context.stage.table(&table.table)),
                ("bootstrap", &BootstrapRows(*context).is_bootstrap_row(table)),
                ("same_row", &same_row(table)),
            ],
        );
        let action = format!("cannot read the rows of \"{}\" that green has before the run", table.table);
        let mut keys: Vec<String> =
            query_scalar(sql).fetch_all(&mut *tx).await.during(context.green(), &action)?;
        let has_more = keys.len() > ROWS_NAMED;
        keys.truncate(ROWS_NAMED);
        if !keys.is_empty() {
            found.push(UnexplainedRows { table: table.table.clone(), keys, has_more });
        }
    }
    for table in &context.plan.only_green {
        let sql = fill("select exists (select from {table})", &[("table", &context.stage.kong_table(table))]);
        let action = format!("cannot read green's table \"{table}\"");
        if query_scalar(sql).fetch_one(&mut *tx).await.during(context.green(), &action)? {
            found.push(UnexplainedRows { table: table.clone(), keys: Vec::new(), has_more: true });
        }
    }
    Ok(found)
}

/// The refusal that names these rows.
pub fn not_empty(found: &[UnexplainedRows]) -> Error {
    let tables: Vec<String> = found.iter().map(|rows| format!("\"{}\"", rows.table)).collect();
    let mut error = Error::refused(format!(
        "green is not empty: it has rows that are neither bootstrap rows nor on blue, in {}",
        tables.join(", ")
    ))
    .remedy(
        "Use a database that Kong has just bootstrapped (kong migrations bootstrap) and that has not been written to \
         since, or delete these rows if they are not needed.",
    );
    for rows in found {
        let more = if rows.has_more { " and more" } else { "" };
        let keys = if rows.keys.is_empty() {
            "has rows, and blue has no such table (--skip-table excludes it)".to_owned()
        } else {
            format!("{}{more}", rows.keys.join(", "))
        };
        error = error.detail(format!("{}: {keys}", rows.table));
    }
    error
}
