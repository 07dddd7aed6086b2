//! How single rows of either side are found: by a unique text within a workspace or by an id, as Kong finds them.

use std::collections::BTreeMap;
use std::future::Future;

use uuid::Uuid;

use crate::error::Result;

/// A row's values as text, without nulls; an instant is milliseconds since 1970.
pub(super) type TextRow = BTreeMap<String, String>;

/// The column with a row's workspace.
pub(super) const WORKSPACE: &str = "ws_id";

/// What names a consumer, and says whose it is.
pub(super) const CONSUMER_COLUMNS: &[&str] = &["id", "ws_id", "username", "custom_id", "type"];

/// Which rows are read. Conditions that are `None` do not apply.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowQuery<'a> {
    pub(super) table: &'a str,
    /// Columns to read, where the table has them.
    pub(super) columns: &'a [&'a str],
    /// A column and the text that it must hold.
    pub(super) text: Option<(&'a str, &'a str)>,
    /// Whether that text is unique within a workspace, so that it carries the workspace on blue.
    pub(super) unique: bool,
    /// Whether that text is compared without regard to case. Blue holds it once more in lower case, in a column of its own.
    pub(super) any_case: bool,
    /// A column and the id that it must hold.
    pub(super) id: Option<(&'a str, Uuid)>,
    pub(super) workspace: Option<Uuid>,
}

pub(super) trait CredentialStore: Send + Sync {
    /// `blue` or `green`, for messages.
    fn side(&self) -> &'static str;

    fn has_table(&self, table: &str) -> bool;

    fn find(&self, query: RowQuery<'_>) -> impl Future<Output = Result<Vec<TextRow>>> + Send;
}

/// The rows of which the first of these columns that finds any holds the name, else that with the name as its id.
pub(super) async fn rows_named(
    store: &impl CredentialStore,
    query: RowQuery<'_>,
    names: &[&str],
    name: &str,
) -> Result<Vec<TextRow>> {
    for column in names {
        let rows = store.find(RowQuery { text: Some((column, name)), ..query }).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
    }
    match Uuid::parse_str(name) {
        Ok(id) => store.find(RowQuery { id: Some(("id", id)), unique: false, ..query }).await,
        Err(_) => Ok(Vec::new()),
    }
}

pub(super) async fn row_by_id(
    store: &impl CredentialStore,
    table: &str,
    columns: &[&str],
    id: Option<Uuid>,
) -> Result<Option<TextRow>> {
    let Some(id) = id else { return Ok(None) };
    let rows = store.find(RowQuery { table, columns, id: Some(("id", id)), ..RowQuery::default() }).await?;
    Ok(rows.into_iter().next())
}

/// The id in a column of a row.
pub(super) fn id_in(row: &TextRow, column: &str) -> Option<Uuid> {
    Uuid::parse_str(row.get(column)?).ok()
}
