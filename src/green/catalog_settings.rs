//! A transaction in which the catalog describes objects in the same way, whatever the settings of the session.

use sqlx::{Connection, PgConnection, Postgres, Transaction};

pub(super) use super::explain::without_remedy as failed;
use super::statement;
use crate::error::Result;

/// Begins such a transaction, or a savepoint where `conn` already is in one. Its settings end with it.
pub(super) async fn begin<'c>(conn: &'c mut PgConnection, action: &str) -> Result<Transaction<'c, Postgres>> {
    let mut tx = conn.begin().await.map_err(|e| failed(&e, action))?;
    statement::query(include_str!("../../sql/catalog/settings.sql"))
        .execute(&mut *tx)
        .await
        .map_err(|e| failed(&e, action))?;
    Ok(tx)
}
