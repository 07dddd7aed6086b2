//! A transaction in which a catalog describes its objects in one and the same way, whatever the session is set to.

use sqlx::{Connection, PgConnection, Postgres, Transaction};

use super::statement;
use crate::error::{Error, Kind, Result};

/// Begins such a transaction, or a savepoint where `conn` already is in one. Its settings end with it.
pub(super) async fn begin<'c>(conn: &'c mut PgConnection, what: &str) -> Result<Transaction<'c, Postgres>> {
    let mut tx = conn.begin().await.map_err(|e| failed(&e, what))?;
    statement::query(include_str!("../../sql/catalog/settings.sql"))
        .execute(&mut *tx)
        .await
        .map_err(|e| failed(&e, what))?;
    Ok(tx)
}

/// An error of the server's, told without a value of any row: values are credentials, and the server quotes them in
/// its messages about data (class 22) and in its details, which are left out altogether.
pub(super) fn failed(error: &sqlx::Error, what: impl Into<String>) -> Error {
    let kind = if matches!(error, sqlx::Error::Io(_)) { Kind::Connection } else { Kind::Server };
    let Some(database) = error.as_database_error() else {
        return Error::new(kind, what).detail(error.to_string());
    };
    let code = database.code().unwrap_or_default();
    if code.starts_with("22") {
        return Error::new(kind, what).detail(format!("PostgreSQL refuses a value (SQLSTATE {code})"));
    }
    Error::new(kind, what).detail(format!("PostgreSQL says: {}", database.message()))
}
