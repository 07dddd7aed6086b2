//! The rows of Kong on Cassandra: found by Kong's secondary indexes, with the workspace removed from unique texts.

use futures::{StreamExt, TryStreamExt};
use scylla::value::{CqlValue, Row as CqlRow};
use uuid::Uuid;

use super::blue_indexes::{BlueIndexes, id_column};
use super::store::{CredentialStore, RowQuery, TextRow, WORKSPACE};
use crate::blue::session::{Blue, quote};
use crate::catalog::blue::{BlueCatalog, BlueTable};
use crate::error::Result;
use crate::mapping::schema_map::SchemaMap;

/// Queries at the same time, one per workspace.
const PARALLEL: usize = 16;

pub(super) struct BlueStore<'a> {
    pub(super) blue: &'a Blue,
    pub(super) catalog: &'a BlueCatalog,
    pub(super) map: &'a SchemaMap,
    pub(super) workspaces: Vec<Uuid>,
    pub(super) indexes: BlueIndexes,
}

impl CredentialStore for BlueStore<'_> {
    fn side(&self) -> &'static str {
        "blue"
    }

    fn has_table(&self, table: &str) -> bool {
        self.catalog.tables.contains_key(table)
    }

    async fn find(&self, query: RowQuery<'_>) -> Result<Vec<TextRow>> {
        let mut rows = match query.text {
            Some((column, text)) if query.unique => self.rows_of_workspaces(&query, column, text).await?,
            Some((column, text)) if query.any_case => {
                let text = (format!("{column}_lower"), text.to_lowercase());
                self.rows(&query, Some((&text.0, text.1))).await?
            }
            text => self.rows(&query, text.map(|(column, text)| (column, text.to_owned()))).await?,
        };
        rows.iter_mut().for_each(without_workspace);
        Ok(rows)
    }
}

/// The value that a column must hold.
struct Condition<'a> {
    column: &'a str,
    value: CqlValue,
}

impl Condition<'_> {
    /// The value as in a [`TextRow`], and as the bytes of a cell.
    fn text_and_bytes(&self) -> (String, Vec<u8>) {
        match &self.value {
            CqlValue::Uuid(id) => (id.to_string(), id.as_bytes().to_vec()),
            CqlValue::Text(text) => (text.clone(), text.as_bytes().to_vec()),
            _ => (String::new(), Vec::new()),
        }
    }
}

impl BlueStore<'_> {
    /// The rows with a text that carries the workspace.
    async fn rows_of_workspaces(
        &self,
        query: &RowQuery<'_>,
        column: &str,
        text: &str,
    ) -> Result<Vec<TextRow>> {
        let workspaces = query.workspace.map_or_else(|| self.workspaces.clone(), |workspace| vec![workspace]);
        let queries = workspaces.into_iter().map(|workspace| async move {
            self.rows(query, Some((column, format!("{workspace}:{text}")))).await
        });
        let rows: Vec<TextRow> = futures::stream::iter(queries).buffered(PARALLEL).try_concat().await?;
        // Enterprise's bootstrap writes the RBAC user kong_admin without its workspace, and reads it by its id.
        if rows.is_empty() && !self.map.rules(query.table).observed {
            let bare = RowQuery { unique: false, ..*query };
            return self.rows(&bare, Some((column, text.to_owned()))).await;
        }
        Ok(rows)
    }

    async fn rows(&self, query: &RowQuery<'_>, text: Option<(&str, String)>) -> Result<Vec<TextRow>> {
        let Some(table) = self.catalog.tables.get(query.table) else { return Ok(Vec::new()) };
        let by_text = text.map(|(column, text)| Condition { column, value: CqlValue::Text(text) });
        let by_id = query.id.map(|(column, id)| Condition { column, value: CqlValue::Uuid(id) });
        let mut conditions: Vec<Condition<'_>> = by_text.into_iter().chain(by_id).collect();
        if conditions.iter().any(|condition| table.column(condition.column).is_none()) {
            return Ok(Vec::new());
        }
        let workspace = query.workspace.filter(|_| table.column(WORKSPACE).is_some() && !query.unique);
        let first = conditions.first();
        let Some(condition) = first.filter(|own| !self.indexes.can_select_by(table, own.column)) else {
            if conditions.is_empty() {
                conditions
                    .extend(workspace.map(|id| Condition { column: WORKSPACE, value: CqlValue::Uuid(id) }));
                return self.select(table, query, None, &conditions).await;
            }
            let rows = self.select(table, query, None, &conditions).await?;
            return Ok(within(rows, workspace));
        };
        let (text, bytes) = condition.text_and_bytes();
        let Some(id) = id_column(table) else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for found in self.indexes.ids(self.blue, table, condition.column, &bytes).await? {
            let by_id = Condition { column: id, value: CqlValue::Uuid(found) };
            rows.extend(self.select(table, query, Some(condition.column), &[by_id]).await?);
        }
        // The entries are hashes, and the row may have changed since the table was read.
        rows.retain(|row| row.get(condition.column) == Some(&text));
        Ok(within(rows, workspace))
    }

    async fn select(
        &self,
        table: &BlueTable,
        query: &RowQuery<'_>,
        extra: Option<&str>,
        conditions: &[Condition<'_>],
    ) -> Result<Vec<TextRow>> {
        let mut known: Vec<&str> =
            query.columns.iter().copied().filter(|name| table.column(name).is_some()).collect();
        for column in extra.into_iter().chain([WORKSPACE]) {
            if table.column(column).is_some() && !known.contains(&column) {
                known.push(column);
            }
        }
        let columns: Vec<String> = known.iter().map(|name| quote(name)).collect();
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            let each = conditions.iter().map(|own| format!("{} = ?", quote(own.column)));
            format!(" WHERE {} ALLOW FILTERING", each.collect::<Vec<_>>().join(" AND "))
        };
        let values: Vec<CqlValue> = conditions.iter().map(|own| own.value.clone()).collect();
        let cql = format!("SELECT {} FROM {}{filter}", columns.join(", "), self.blue.table(&table.name));
        let action = format!("cannot read blue's table \"{}\"", table.name);
        let found: Vec<CqlRow> = self.blue.rows(&cql, values, &action).await?;
        let rows = found.into_iter().map(|row| {
            let cells = known.iter().zip(row.columns);
            let texts = cells.filter_map(|(name, cell)| Some(((*name).to_owned(), text(cell?)?)));
            texts.collect::<TextRow>()
        });
        Ok(rows.collect())
    }
}

/// Removes the row's workspace from the texts that carry it.
fn without_workspace(row: &mut TextRow) {
    let Some(own) = row.get(WORKSPACE).map(|workspace| format!("{workspace}:")) else { return };
    for value in row.values_mut() {
        if let Some(rest) = value.strip_prefix(&own) {
            *value = rest.to_owned();
        }
    }
}

/// Rows of that workspace. Not a condition of the query, because Cassandra may then choose the worse index.
fn within(mut rows: Vec<TextRow>, workspace: Option<Uuid>) -> Vec<TextRow> {
    if let Some(workspace) = workspace {
        let own = workspace.to_string();
        rows.retain(|row| row.get(WORKSPACE) == Some(&own));
    }
    rows
}

fn text(value: CqlValue) -> Option<String> {
    Some(match value {
        CqlValue::Text(text) | CqlValue::Ascii(text) => text,
        CqlValue::Uuid(id) => id.to_string(),
        CqlValue::Boolean(value) => value.to_string(),
        CqlValue::Int(value) => value.to_string(),
        CqlValue::BigInt(value) => value.to_string(),
        CqlValue::Timestamp(instant) => instant.0.to_string(),
        _ => return None,
    })
}
