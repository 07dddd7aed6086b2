//! Single rows of either side, found as Kong finds them: by a unique text within a workspace, or by an id.

use std::collections::BTreeMap;
use std::future::Future;

use scylla::value::{CqlValue, Row as CqlRow};
use sqlx::Row as _;
use uuid::Uuid;

use crate::blue::catalog::BlueCatalog;
use crate::blue::session::{Blue, quote as cql_quote};
use crate::error::Result;
use crate::green::catalog::GreenCatalog;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query;
use crate::mapping::schema_map::SchemaMap;

/// A row's values as text, without the nulls; an instant is milliseconds since 1970.
pub type Row = BTreeMap<String, String>;

/// The column with a row's workspace.
pub const WORKSPACE: &str = "ws_id";

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// The table.
    pub table: &'a str,
    /// What is read of each row, where the table has it.
    pub columns: &'a [&'a str],
    /// A text that a column must hold.
    pub text: Option<(&'a str, &'a str)>,
    /// Whether that text is unique within a workspace, so that blue has the workspace in front of it.
    pub unique: bool,
    /// An id that a column must hold.
    pub id: Option<(&'a str, Uuid)>,
    /// The workspace; any where none is given.
    pub workspace: Option<Uuid>,
}

/// One side.
pub trait Store: Send + Sync {
    /// Its name, for messages.
    fn side(&self) -> &'static str;

    /// Whether it has a table.
    fn has(&self, table: &str) -> bool;

    /// Rows that are as wanted.
    fn find(&self, wanted: Wanted<'_>) -> impl Future<Output = Result<Vec<Row>>> + Send;
}

/// Kong on PostgreSQL.
pub struct OnGreen<'a> {
    /// The connection.
    pub green: &'a Green,
    /// Its tables.
    pub catalog: &'a GreenCatalog,
}

impl Store for OnGreen<'_> {
    fn side(&self) -> &'static str {
        "green"
    }

    fn has(&self, table: &str) -> bool {
        self.catalog.tables.contains_key(table)
    }

    async fn find(&self, wanted: Wanted<'_>) -> Result<Vec<Row>> {
        let Some(table) = self.catalog.tables.get(wanted.table) else { return Ok(Vec::new()) };
        let known: Vec<&str> =
            wanted.columns.iter().copied().filter(|name| table.column(name).is_some()).collect();
        let mut conditions = vec!["true".to_owned()];
        let mut number = 0;
        let mut condition = |column: &str, cast: &str| {
            number += 1;
            conditions.push(format!("{} = ${number}{cast}", quote(column)));
        };
        let mut values: Vec<String> = Vec::new();
        if let Some((column, text)) = wanted.text {
            // Such a text cannot stand in PostgreSQL, and PostgreSQL would refuse the question.
            if text.contains('\0') {
                return Ok(Vec::new());
            }
            condition(column, "");
            values.push(text.to_owned());
        }
        if let Some((column, id)) = wanted.id {
            condition(column, "::uuid");
            values.push(id.to_string());
        }
        if let (Some(workspace), Some(_)) = (wanted.workspace, table.column(WORKSPACE)) {
            condition(WORKSPACE, "::uuid");
            values.push(workspace.to_string());
        }
        let shown = known.iter().map(|name| {
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
                ("columns", &shown.collect::<Vec<_>>().join(", ")),
                ("table", &quote(&table.name)),
                ("conditions", &conditions.join(" and ")),
            ],
        );
        let what = format!("cannot look into green's table \"{}\"", table.name);
        let mut tx = self.green.begin_snapshot().await?;
        let asked = values.into_iter().fold(query(sql), |query, value| query.bind(value));
        let found = asked.fetch_all(&mut *tx).await.map_err(|e| self.green.explain(e, &what))?;
        tx.rollback().await.map_err(|e| self.green.explain(e, &what))?;
        let mut rows = Vec::with_capacity(found.len());
        for one in found {
            let mut row = Row::new();
            for (at, name) in known.iter().enumerate() {
                let value: Option<String> = one.try_get(at).map_err(|e| self.green.explain(e, &what))?;
                row.extend(value.map(|value| ((*name).to_owned(), value)));
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

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
        let mut rows = Vec::new();
        for workspace in workspaces {
            rows.extend(self.rows(&wanted, Some((column, format!("{workspace}:{text}")))).await?);
        }
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
}

impl OnBlue<'_> {
    async fn rows(&self, wanted: &Wanted<'_>, text: Option<(&str, String)>) -> Result<Vec<Row>> {
        let Some(table) = self.catalog.tables.get(wanted.table) else { return Ok(Vec::new()) };
        let mut known: Vec<&str> =
            wanted.columns.iter().copied().filter(|name| table.column(name).is_some()).collect();
        if table.column(WORKSPACE).is_some() && !known.contains(&WORKSPACE) {
            known.push(WORKSPACE);
        }
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        if let Some((column, text)) = text {
            conditions.push(format!("{} = ?", cql_quote(column)));
            values.push(CqlValue::Text(text));
        }
        if let Some((column, id)) = wanted.id {
            conditions.push(format!("{} = ?", cql_quote(column)));
            values.push(CqlValue::Uuid(id));
        }
        if let (Some(workspace), Some(_), false) = (wanted.workspace, table.column(WORKSPACE), wanted.unique)
        {
            conditions.push(format!("{} = ?", cql_quote(WORKSPACE)));
            values.push(CqlValue::Uuid(workspace));
        }
        let columns: Vec<String> = known.iter().map(|name| cql_quote(name)).collect();
        let place = if conditions.is_empty() {
            String::new()
        } else {
            // Most of these columns have an index; where one has none, a search is what is wanted.
            format!(" WHERE {} ALLOW FILTERING", conditions.join(" AND "))
        };
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
