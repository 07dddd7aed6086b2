//! The rows of Kong on PostgreSQL.

use sqlx::Row as _;

use super::store::{CredentialStore, RowQuery, TextRow, WORKSPACE};
use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query as statement;

pub(super) struct GreenStore<'a> {
    pub(super) green: &'a Green,
    pub(super) catalog: &'a GreenCatalog,
}

impl CredentialStore for GreenStore<'_> {
    fn side(&self) -> &'static str {
        "green"
    }

    fn has_table(&self, table: &str) -> bool {
        self.catalog.tables.contains_key(table)
    }

    async fn find(&self, query: RowQuery<'_>) -> Result<Vec<TextRow>> {
        let Some(table) = self.catalog.tables.get(query.table) else { return Ok(Vec::new()) };
        let known: Vec<&str> =
            query.columns.iter().copied().filter(|name| table.column(name).is_some()).collect();
        let mut conditions = vec!["true".to_owned()];
        let mut values: Vec<String> = Vec::new();
        let mut condition = |left: String, value: String, right: fn(usize) -> String| {
            values.push(value);
            conditions.push(format!("{left} = {}", right(values.len())));
        };
        let as_id = |number: usize| format!("${number}::uuid");
        if let Some((column, text)) = query.text {
            // PostgreSQL holds no such text, and refuses it as a parameter.
            if text.contains('\0') {
                return Ok(Vec::new());
            }
            if query.any_case {
                condition(format!("lower({})", quote(column)), text.to_owned(), |n| format!("lower(${n})"));
            } else {
                condition(quote(column), text.to_owned(), |n| format!("${n}"));
            }
        }
        if let Some((column, id)) = query.id {
            condition(quote(column), id.to_string(), as_id);
        }
        if let (Some(workspace), Some(_)) = (query.workspace, table.column(WORKSPACE)) {
            condition(quote(WORKSPACE), workspace.to_string(), as_id);
        }
        let as_text = known.iter().map(|name| {
            let is_instant = table.column(name).is_some_and(|own| own.column_type.starts_with("timestamp"));
            if is_instant {
                format!("(extract(epoch from {}) * 1000)::bigint::text", quote(name))
            } else {
                format!("{}::text", quote(name))
            }
        });
        let sql = fill(
            "select {columns} from {table} where {conditions}",
            &[
                ("columns", &as_text.collect::<Vec<_>>().join(", ")),
                ("table", &quote(&table.name)),
                ("conditions", &conditions.join(" and ")),
            ],
        );
        let read = async |tx: &mut sqlx::PgConnection| {
            let bound = values.into_iter().fold(statement(sql), |bound, value| bound.bind(value));
            let mut rows = Vec::new();
            for found in bound.fetch_all(tx).await? {
                let mut row = TextRow::new();
                for (place, name) in known.iter().enumerate() {
                    let value: Option<String> = found.try_get(place)?;
                    row.extend(value.map(|value| ((*name).to_owned(), value)));
                }
                rows.push(row);
            }
            Ok(rows)
        };
        self.green.read(&format!("cannot read green's table \"{}\"", table.name), read).await
    }
}
