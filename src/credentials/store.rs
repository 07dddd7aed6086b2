//! How single rows of either side are found: by a unique text within a workspace or by an id, as Kong finds them.

use std::collections::BTreeMap;
use std::future::Future;

use uuid::Uuid;

use crate::error::Result;

/// A row's values as text, without nulls; an instant is milliseconds since 1970.
pub(super) type TextRow = BTreeMap<String, String>;

/// The column with a row's workspace.
pub(super) const WORKSPACE: &str = "ws_id";

/// Which rows are read. Conditions that are `None` do not apply.
#[derive(Debug, Clone, Default)]
pub(super) struct RowQuery<'a> {
    pub(super) table: &'a str,
    /// Columns to read, where the table has them.
    pub(super) columns: &'a [&'a str],
    /// A column and the text that it must hold.
    pub(super) text: Option<(&'a str, &'a str)>,
    /// Whether that text is unique within a workspace, so that it carries the workspace on blue.
    pub(super) unique: bool,
    /// A column and the id that it must hold.
    pub(super) id: Option<(&'a str, Uuid)>,
    pub(super) workspace: Option<Uuid>,
}

pub(super) trait CredentialStore: Send + Sync {
    /// `blue` or `green`, for messages.
    fn side(&self) -> &'static str;

    fn has_table(&self, table: &str) -> bool;

    fn find(&self, query: RowQuery<'_>) -> impl Future<Output = Result<Vec<TextRow>>> + Send;

    /// Whether a column holds cipher text of the keyring, in this workspace or in any.
    fn has_cipher_text(
        &self,
        table: &str,
        column: &str,
        workspace: Option<Uuid>,
    ) -> impl Future<Output = Result<bool>> + Send;
}

pub(super) async fn row_by_id(
    store: &impl CredentialStore,
    table: &str,
    id: Option<Uuid>,
) -> Result<Option<TextRow>> {
    let Some(id) = id else { return Ok(None) };
    let columns = &[
        "id",
        "ws_id",
        "username",
        "custom_id",
        "type",
        "name",
        "user_token",
        "enabled",
        "consumer_id",
        "cert",
        "client_id",
    ];
    let rows = store.find(RowQuery { table, columns, id: Some(("id", id)), ..RowQuery::default() }).await?;
    Ok(rows.into_iter().next())
}

/// The id in a column of a row.
pub(super) fn id_in(row: &TextRow, column: &str) -> Option<Uuid> {
    Uuid::parse_str(row.get(column)?).ok()
}
