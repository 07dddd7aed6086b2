//! Rows of one table, from one server to another as a stream.

use futures::TryStreamExt;
use sqlx::{PgConnection, Row};

use crate::error::{Error, Result};
use crate::green::catalog_settings::{self, failed};
use crate::green::sql::quote;
use crate::green::statement;

struct CopyStatements {
    out: String,
    into: String,
}

/// Copies all rows of one table from one server to the same table on another, in constant memory, and returns their
/// number; on an error the target has none of them. After an error neither connection can be used any more: the source
/// continues to send.
pub async fn copy_rows(
    from: &mut PgConnection,
    to: &mut PgConnection,
    schema: &str,
    table: &str,
) -> Result<u64> {
    let action = format!("cannot copy the rows of table {}", quote(table));
    // On both sides, so that one writes numbers, times and intervals as the other reads them.
    let mut from = catalog_settings::begin(from, &action).await?;
    let mut to = catalog_settings::begin(to, &action).await?;
    let Some(route) = route(&mut from, schema, table, &action).await? else { return Ok(0) };
    let rows = stream(&mut from, &mut to, &route, &action).await?;
    to.commit().await.map_err(|e| failed(&e, &action))?;
    from.rollback().await.map_err(|e| failed(&e, &action))?;
    Ok(rows)
}

/// The statements; none for a table without a column that could be written.
async fn route(
    from: &mut PgConnection,
    schema: &str,
    table: &str,
    action: &str,
) -> Result<Option<CopyStatements>> {
    let row = statement::query(include_str!("../../../sql/catalog/schema_dump/copy.sql"))
        .bind(schema)
        .bind(table)
        .fetch_optional(from)
        .await
        .map_err(|e| failed(&e, action))?
        .ok_or_else(|| Error::refused(format!("{action}: there is no such table on green")))?;
    let columns: Option<String> = row.try_get("columns").map_err(|e| failed(&e, action))?;
    let is_binary_safe: Option<bool> = row.try_get("is_binary_safe").map_err(|e| failed(&e, action))?;
    let is_partitioned: bool = row.try_get("is_partitioned").map_err(|e| failed(&e, action))?;
    Ok(columns.map(|columns| {
        let name = format!("{}.{}", quote(schema), quote(table));
        let format = if is_binary_safe == Some(true) { "binary" } else { "text" };
        // A partitioned table has rows only in its parts; a table that others inherit from has its own.
        let only = if is_partitioned { "" } else { "only " };
        CopyStatements {
            out: format!("copy (select {columns} from {only}{name}) to stdout (format {format})"),
            into: format!("copy {name} ({columns}) from stdin (format {format})"),
        }
    }))
}

async fn stream(
    from: &mut PgConnection,
    to: &mut PgConnection,
    route: &CopyStatements,
    action: &str,
) -> Result<u64> {
    let mut rows = from.copy_out_raw(&route.out).await.map_err(|e| failed(&e, action))?;
    let mut sink = to.copy_in_raw(&route.into).await.map_err(|e| failed(&e, action))?;
    loop {
        match rows.try_next().await {
            Ok(Some(chunk)) => sink.send(chunk).await.map_err(|e| failed(&e, action))?,
            Ok(None) => return sink.finish().await.map_err(|e| failed(&e, action)),
            Err(error) => {
                // The source's error is the one to report.
                let _ = sink.abort("the source failed").await;
                return Err(failed(&error, action));
            }
        };
    }
}
