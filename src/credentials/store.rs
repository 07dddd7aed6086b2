//! Single rows of either side, found as Kong finds them: by a unique text within a workspace, or by an id. Here is what both
//! sides are asked, and how green answers.

use std::collections::BTreeMap;
use std::future::Future;

use sqlx::Row as _;
use uuid::Uuid;

use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::{query, query_scalar};

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

    /// Whether a column of a table holds cipher text of the keyring, in this workspace or in any.
    fn holds_cipher_text(
        &self,
        table: &str,
        column: &str,
        workspace: Option<Uuid>,
    ) -> impl Future<Output = Result<bool>> + Send;
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
        let found = asked.fetch_all(&mut *tx).await.during(&self.green, &what)?;
        tx.rollback().await.during(&self.green, &what)?;
        let mut rows = Vec::with_capacity(found.len());
        for one in found {
            let mut row = Row::new();
            for (at, name) in known.iter().enumerate() {
                let value: Option<String> = one.try_get(at).during(&self.green, &what)?;
                row.extend(value.map(|value| ((*name).to_owned(), value)));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    async fn holds_cipher_text(&self, table: &str, column: &str, workspace: Option<Uuid>) -> Result<bool> {
        let sql = fill(
            include_str!("../../sql/credentials/cipher_text.sql"),
            &[("table", &quote(table)), ("column", &quote(column)), ("workspace", &quote(WORKSPACE))],
        );
        let what = format!("cannot look for cipher text in green's table \"{table}\"");
        let mut tx = self.green.begin_snapshot().await?;
        let asked = query_scalar::<bool>(sql).bind(workspace.map(|id| id.to_string()));
        let found = asked.fetch_one(&mut *tx).await.during(&self.green, &what)?;
        tx.rollback().await.during(&self.green, &what)?;
        Ok(found)
    }
}
