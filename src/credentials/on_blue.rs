//! How blue answers: by Kong's own secondary indexes where it has them, and with the workspace taken off unique texts.

use futures::{StreamExt, TryStreamExt};
use scylla::value::{CqlValue, Row as CqlRow};
use uuid::Uuid;

use super::lookup::{Lookups, id_of};
use super::store::{Row, Store, WORKSPACE, Wanted};
use crate::blue::session::{Blue, quote};
use crate::catalog::blue::{BlueCatalog, BlueTable};
use crate::error::Result;
use crate::mapping::schema_map::SchemaMap;

/// Workspaces that are asked about at the same time.
const AT_ONCE: usize = 16;

/// Kong on Cassandra.
pub struct OnBlue<'a> {
    /// The connection.
    pub blue: &'a Blue,
    /// Its tables.
    pub catalog: &'a BlueCatalog,
    /// What is known of them.
    pub map: &'a SchemaMap,
    /// All workspaces.
    pub workspaces: Vec<Uuid>,
    /// By which columns rows are found.
    pub lookups: Lookups,
}

impl Store for OnBlue<'_> {
    fn side(&self) -> &'static str {
        "blue"
    }

    fn has(&self, table: &str) -> bool {
        self.catalog.tables.contains_key(table)
    }

    async fn find(&self, wanted: Wanted<'_>) -> Result<Vec<Row>> {
        let Some((column, text)) = wanted.text.filter(|_| wanted.unique) else {
            return self.rows(&wanted, wanted.text.map(|(column, text)| (column, text.to_owned()))).await;
        };
        let workspaces = wanted.workspace.map_or_else(|| self.workspaces.clone(), |one| vec![one]);
        let asked = workspaces.into_iter().map(|workspace| {
            let wanted = &wanted;
            async move { self.rows(wanted, Some((column, format!("{workspace}:{text}")))).await }
        });
        let mut rows: Vec<Row> = futures::stream::iter(asked).buffered(AT_ONCE).try_concat().await?;
        // Of Enterprise's own tables it is not known whether the workspace stands in front.
        if rows.is_empty() && !self.map.rules(wanted.table).observed {
            rows = self.rows(&wanted, Some((column, text.to_owned()))).await?;
        }
        for row in &mut rows {
            let own = row.get(WORKSPACE).map(|workspace| format!("{workspace}:"));
            if let (Some(own), Some(value)) = (own, row.get_mut(column)) {
                *value = value.strip_prefix(&own).unwrap_or(value).to_owned();
            }
        }
        Ok(rows)
    }

    async fn holds_cipher_text(&self, table: &str, column: &str, workspace: Option<Uuid>) -> Result<bool> {
        let Some(table) = self.catalog.tables.get(table) else { return Ok(false) };
        self.lookups.holds_cipher_text(self.blue, table, column, workspace).await
    }
}

/// What a column must hold.
struct Condition<'a> {
    column: &'a str,
    value: CqlValue,
}

impl Condition<'_> {
    /// The value as a row shows it, and as it stands in a cell.
    fn text_and_bytes(&self) -> (String, Vec<u8>) {
        match &self.value {
            CqlValue::Uuid(id) => (id.to_string(), id.as_bytes().to_vec()),
            CqlValue::Text(text) => (text.clone(), text.as_bytes().to_vec()),
            _ => (String::new(), Vec::new()),
        }
    }
}

impl OnBlue<'_> {
    async fn rows(&self, wanted: &Wanted<'_>, text: Option<(&str, String)>) -> Result<Vec<Row>> {
        let Some(table) = self.catalog.tables.get(wanted.table) else { return Ok(Vec::new()) };
        let by_text = text.map(|(column, text)| Condition { column, value: CqlValue::Text(text) });
        let by_id = wanted.id.map(|(column, id)| Condition { column, value: CqlValue::Uuid(id) });
        let mut conditions: Vec<Condition<'_>> = by_text.into_iter().chain(by_id).collect();
        if conditions.iter().any(|condition| table.column(condition.column).is_none()) {
            return Ok(Vec::new());
        }
        let workspace = wanted.workspace.filter(|_| table.column(WORKSPACE).is_some() && !wanted.unique);
        let first = conditions.first();
        let Some(condition) = first.filter(|one| !self.lookups.blue_finds(table, one.column)) else {
            if conditions.is_empty() {
                conditions
                    .extend(workspace.map(|id| Condition { column: WORKSPACE, value: CqlValue::Uuid(id) }));
                return self.select(table, wanted, None, &conditions).await;
            }
            let rows = self.select(table, wanted, None, &conditions).await?;
            return Ok(within(rows, workspace));
        };
        let (text, bytes) = condition.text_and_bytes();
        let Some(id) = id_of(table) else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for found in self.lookups.ids(self.blue, table, condition.column, &bytes).await? {
            let by_id = Condition { column: id, value: CqlValue::Uuid(found) };
            rows.extend(self.select(table, wanted, Some(condition.column), &[by_id]).await?);
        }
        // Entries are hashes, and a row may have changed since the table was read.
        rows.retain(|row| row.get(condition.column) == Some(&text));
        Ok(within(rows, workspace))
    }

    async fn select(
        &self,
        table: &BlueTable,
        wanted: &Wanted<'_>,
        also: Option<&str>,
        conditions: &[Condition<'_>],
    ) -> Result<Vec<Row>> {
        let mut known: Vec<&str> =
            wanted.columns.iter().copied().filter(|name| table.column(name).is_some()).collect();
        for more in also.into_iter().chain([WORKSPACE]) {
            if table.column(more).is_some() && !known.contains(&more) {
                known.push(more);
            }
        }
        let columns: Vec<String> = known.iter().map(|name| quote(name)).collect();
        let place = if conditions.is_empty() {
            String::new()
        } else {
            let each = conditions.iter().map(|one| format!("{} = ?", quote(one.column)));
            format!(" WHERE {} ALLOW FILTERING", each.collect::<Vec<_>>().join(" AND "))
        };
        let values: Vec<CqlValue> = conditions.iter().map(|one| one.value.clone()).collect();
        let cql = format!("SELECT {} FROM {}{place}", columns.join(", "), self.blue.table(&table.name));
        let what = format!("cannot look into blue's table \"{}\"", table.name);
        let found: Vec<CqlRow> = self.blue.rows(&cql, values, &what).await?;
        let rows = found.into_iter().map(|row| {
            let cells = known.iter().zip(row.columns);
            let shown = cells.filter_map(|(name, cell)| Some(((*name).to_owned(), shown(cell?)?)));
            shown.collect::<Row>()
        });
        Ok(rows.collect())
    }
}

/// Rows of that workspace. It is not asked of blue: with a second condition Cassandra may choose the worse index.
fn within(mut rows: Vec<Row>, workspace: Option<Uuid>) -> Vec<Row> {
    if let Some(workspace) = workspace {
        let own = workspace.to_string();
        rows.retain(|row| row.get(WORKSPACE) == Some(&own));
    }
    rows
}

fn shown(value: CqlValue) -> Option<String> {
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
