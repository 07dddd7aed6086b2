//! A transaction in which a catalog describes its objects in one and the same way, whatever the session is set to.

use sqlx::{Connection, PgConnection, Postgres, Transaction};

pub(super) use super::explain::plainly as failed;
use super::statement;
use crate::error::Result;

/// Begins such a transaction, or a savepoint where `conn` already is in one. Its settings end with it.
pub(super) async fn begin<'c>(conn: &'c mut PgConnection, what: &str) -> Result<Transaction<'c, Postgres>> {
    let mut tx = conn.begin().await.map_err(|e| failed(&e, what))?;
    statement::query(include_str!("../../sql/catalog/settings.sql"))
        .execute(&mut *tx)
        .await
        .map_err(|e| failed(&e, what))?;
    Ok(tx)
}
