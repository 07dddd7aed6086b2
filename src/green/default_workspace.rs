//! The default workspace, whose id differs between green's bootstrap and blue: on Enterprise the default of `ws_id`
//! contains the id that the bootstrap chose, and has to become blue's.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::apply_context::ApplyContext;
use super::session::During;
use super::sql::{fill, literal, quote};
use super::statement::query_scalar;
use crate::error::Result;

pub(super) struct DefaultWorkspace {
    green: String,
    blue: String,
}

impl DefaultWorkspace {
    pub(super) async fn read(
        context: &ApplyContext<'_>,
        tx: &mut PgConnection,
    ) -> sqlx::Result<Option<DefaultWorkspace>> {
        let Some(names) = &context.map.names.workspaces else { return Ok(None) };
        let select_id = |table: String| {
            fill(
                "select {id}::text from {table} where {name} = {default}",
                &[
                    ("id", &quote(&names.id)),
                    ("table", &table),
                    ("name", &quote(&names.name)),
                    ("default", &literal(&names.default)),
                ],
            )
        };
        let green: Option<String> =
            query_scalar(select_id(context.stage.kong_table(&names.table))).fetch_optional(&mut *tx).await?;
        let blue: Option<String> =
            query_scalar(select_id(context.stage.table(&names.table))).fetch_optional(tx).await?;
        Ok(green.zip(blue).map(|(green, blue)| DefaultWorkspace { green, blue }))
    }

    /// Changes every column default that contains green's id; returns these columns, as table and column.
    pub(super) async fn update_defaults(
        &self,
        context: &ApplyContext<'_>,
        tx: &mut PgConnection,
    ) -> Result<BTreeSet<(String, String)>> {
        let mut updated = BTreeSet::new();
        let Some(name) = context.map.names.workspace_column.as_deref() else { return Ok(updated) };
        if self.green == self.blue {
            return Ok(updated);
        }
        let contains_id = |default: &String| default.contains(&self.green);
        for table in context.catalog.tables.values() {
            let column = table.column(name);
            if !column.is_some_and(|column| column.default.as_ref().is_some_and(contains_id)) {
                continue;
            }
            let sql = fill(
                "alter table {table} alter column {column} set default {id}::uuid",
                &[
                    ("table", &context.stage.kong_table(&table.name)),
                    ("column", &quote(name)),
                    ("id", &literal(&self.blue)),
                ],
            );
            let action = format!(
                "cannot set the default of \"{}\".\"{name}\" to the id of blue's default workspace",
                table.name
            );
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(context.green(), &action)?;
            updated.insert((table.name.clone(), name.to_owned()));
        }
        Ok(updated)
    }
}
