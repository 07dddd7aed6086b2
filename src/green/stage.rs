//! The staging area on green: unlogged tables of the same columns as Kong's, without constraints, filled by binary COPY.
//!
//! Several pages of rows are one COPY in one transaction. Where PostgreSQL refuses one for its data, each page is copied
//! alone, and halved until the row is found; that row is rejected with PostgreSQL's SQLSTATE as the reason, and the others
//! are copied.

use sqlx::PgConnection;
use uuid::Uuid;

use super::session::{During, Green};
use super::sql::{columns, fill, literal, own_table_name, quote};
use super::statement::{query, query_scalar};
use crate::error::{Error, Result};
use crate::mapping::pg_binary;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// The column of each staging table with the digest of the row's values, for the ledger.
const DIGEST: &str = "kongferry_digest";

/// The staging area of one run.
#[derive(Debug, Clone)]
pub struct Stage {
    green: Green,
    run: Uuid,
}

#[derive(Debug, Default)]
pub struct RowBuffer {
    /// The rows, one after another, without header and trailer.
    pub bytes: Vec<u8>,
    pub starts: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub row: usize,
    pub sqlstate: String,
}

#[derive(Debug, Clone)]
pub struct RejectedRow {
    pub key: serde_json::Value,
    /// The column that caused the rejection.
    pub column: Option<String>,
    pub reason: &'static str,
    pub detail: Option<String>,
    /// The row as it is on blue.
    pub row: serde_json::Value,
    /// The digest of its values, where it could be converted.
    pub digest: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub struct RepairedValue {
    pub key: serde_json::Value,
    pub column: String,
    pub repair: &'static str,
}

impl RowBuffer {
    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    /// Adds a field to the last row, which begins at this offset.
    pub fn add_field(&mut self, start: usize, field: &[u8]) {
        if let Some([high, low]) = self.bytes.get_mut(start..start + 2) {
            let count = i16::from_be_bytes([*high, *low]).saturating_add(1);
            [*high, *low] = count.to_be_bytes();
        }
        self.bytes.extend(i32::try_from(field.len()).unwrap_or(i32::MAX).to_be_bytes());
        self.bytes.extend_from_slice(field);
    }

    /// The last field of a row, of this length in bytes.
    pub fn last_field(&self, row: usize, length: usize) -> Option<&[u8]> {
        let bytes = self.rows(row..row + 1);
        bytes.get(bytes.len().checked_sub(length)?..)
    }

    fn rows(&self, range: std::ops::Range<usize>) -> &[u8] {
        let start = self.starts.get(range.start).copied().unwrap_or(self.bytes.len());
        let end = self.starts.get(range.end).copied().unwrap_or(self.bytes.len());
        self.bytes.get(start..end).unwrap_or_default()
    }
}

impl Stage {
    /// Creates the staging tables, after dropping those that an interrupted run left.
    pub async fn create(green: &Green, run: Uuid, plan: &KeyspacePlan) -> Result<Stage> {
        let stage = Stage::new(green, run);
        stage.drop_tables().await?;
        let create = green.write("cannot create the staging tables on green", async |tx| {
            stage.create_tables(tx, plan).await?;
            Ok(())
        });
        create.await?;
        Ok(stage)
    }

    async fn create_tables(&self, tx: &mut PgConnection, plan: &KeyspacePlan) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/stage/create.sql"),
            &[("work", &quote(self.green.work_schema())), ("run_id", &self.run.to_string())],
        );
        sqlx::raw_sql(sql).execute(&mut *tx).await?;
        for table in &plan.moved {
            let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            let sql = fill(
                "create unlogged table {stage} with (autovacuum_enabled = false) as select {columns}, null::bytea as {digest} from {table} with no data",
                &[
                    ("stage", &self.table(&table.table)),
                    ("digest", DIGEST),
                    ("columns", &columns(&names, "")),
                    ("table", &self.kong_table(&table.table)),
                ],
            );
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
            for column in &table.generated {
                let sql = fill(
                    "alter table {stage} add column {name} {type} generated always as ({expression}) stored",
                    &[
                        ("stage", &self.table(&table.table)),
                        ("name", &quote(&column.name)),
                        ("type", &column.column_type),
                        ("expression", column.default.as_deref().unwrap_or("null")),
                    ],
                );
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
        }
        Ok(())
    }

    /// The staging area of a run, whether or not its tables exist.
    pub fn new(green: &Green, run: Uuid) -> Stage {
        Stage { green: green.clone(), run }
    }

    pub fn run(&self) -> Uuid {
        self.run
    }

    pub fn green(&self) -> &Green {
        &self.green
    }

    /// The staging table of one of Kong's tables, quoted.
    pub fn table(&self, table: &str) -> String {
        format!("{}.{}", quote(self.green.work_schema()), quote(&stage_name(table)))
    }

    /// One of our own tables, quoted.
    pub fn own(&self, table: &str) -> String {
        format!("{}.{}", quote(self.green.work_schema()), quote(table))
    }

    /// One of Kong's tables, quoted.
    pub fn kong_table(&self, table: &str) -> String {
        format!("{}.{}", quote(self.green.kong_schema()), quote(table))
    }

    /// Copies the rows of several pages into a staging table by one COPY; returns for each page the rows that PostgreSQL
    /// refuses for their data.
    pub async fn copy(&self, plan: &TablePlan, pages: &[&RowBuffer]) -> Result<Vec<Vec<Refused>>> {
        let rows: Vec<&[u8]> = pages.iter().map(|page| page.rows(0..page.starts.len())).collect();
        if rows.iter().all(|rows| rows.is_empty()) || self.try_copy(plan, &rows).await?.is_none() {
            return Ok(vec![Vec::new(); pages.len()]);
        }
        let mut refused = Vec::with_capacity(pages.len());
        for page in pages {
            refused.push(self.copy_page(plan, page).await?);
        }
        Ok(refused)
    }

    /// Halves a page until every row that is refused is found.
    async fn copy_page(&self, plan: &TablePlan, page: &RowBuffer) -> Result<Vec<Refused>> {
        let mut refused = Vec::new();
        // Ranges of rows that are not copied yet, the next one last.
        let mut pending = Vec::from([(0, page.starts.len())]);
        while let Some((start, end)) = pending.pop() {
            if start == end {
                continue;
            }
            let Some(sqlstate) = self.try_copy(plan, &[page.rows(start..end)]).await? else { continue };
            if end - start == 1 {
                refused.push(Refused { row: start, sqlstate });
            } else {
                let middle = start + (end - start) / 2;
                pending.push((middle, end));
                pending.push((start, middle));
            }
        }
        Ok(refused)
    }

    /// Copies these rows in one transaction, all or none; returns the SQLSTATE where PostgreSQL refuses one of them.
    async fn try_copy(&self, plan: &TablePlan, rows: &[&[u8]]) -> Result<Option<String>> {
        let explain =
            |error| self.green.explain(error, &format!("cannot fill the stage of \"{}\"", plan.table));
        let mut tx = self.green.begin().await?;
        let Err(error) = self.copy_rows(&mut tx, plan, rows).await else {
            return tx.commit().await.map(|()| None).map_err(explain);
        };
        let Some(sqlstate) = data_error(&error) else { return Err(explain(error)) };
        tx.rollback().await.map_err(explain)?;
        Ok(Some(sqlstate))
    }

    async fn copy_rows(&self, tx: &mut PgConnection, plan: &TablePlan, rows: &[&[u8]]) -> sqlx::Result<()> {
        let sql = format!("copy {} from stdin (format binary)", self.table(&plan.table));
        let mut copy = tx.copy_in_raw(&sql).await?;
        copy.send(pg_binary::HEADER.as_slice()).await?;
        for page in rows {
            copy.send(*page).await?;
        }
        copy.send(pg_binary::TRAILER.as_slice()).await?;
        copy.finish().await?;
        Ok(())
    }

    /// Records the rows that were rejected and the values that were repaired while reading one page.
    pub async fn record(
        &self,
        table: &str,
        rejected: &[RejectedRow],
        repaired: &[RepairedValue],
    ) -> Result<()> {
        if rejected.is_empty() && repaired.is_empty() {
            return Ok(());
        }
        let action = format!("cannot record the rejected and repaired rows of \"{table}\"");
        let insert = self.green.write(&action, async |tx| {
            self.insert_rejects(tx, table, rejected).await?;
            self.insert_repairs(tx, table, repaired).await?;
            Ok(())
        });
        insert.await
    }

    async fn insert_rejects(
        &self,
        tx: &mut PgConnection,
        table: &str,
        rejected: &[RejectedRow],
    ) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/stage/insert_rejects.sql"),
            &[("rejects", &self.own("stage_reject")), ("table", &literal(table))],
        );
        let keys: Vec<String> = rejected.iter().map(|row| row.key.to_string()).collect();
        let column: Vec<Option<&str>> = rejected.iter().map(|row| row.column.as_deref()).collect();
        let reason: Vec<&str> = rejected.iter().map(|row| row.reason).collect();
        let detail: Vec<Option<&str>> = rejected.iter().map(|row| row.detail.as_deref()).collect();
        let text: Vec<String> = rejected.iter().map(|row| row.row.to_string()).collect();
        let digest: Vec<Option<&[u8]>> = rejected.iter().map(|row| row.digest.as_deref()).collect();
        query(sql)
            .bind(keys)
            .bind(column)
            .bind(reason)
            .bind(detail)
            .bind(text)
            .bind(digest)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn insert_repairs(
        &self,
        tx: &mut PgConnection,
        table: &str,
        repaired: &[RepairedValue],
    ) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/stage/insert_repairs.sql"),
            &[("repairs", &self.own("stage_repair")), ("table", &literal(table))],
        );
        let keys: Vec<String> = repaired.iter().map(|value| value.key.to_string()).collect();
        let column: Vec<&str> = repaired.iter().map(|value| value.column.as_str()).collect();
        let repair: Vec<&str> = repaired.iter().map(|value| value.repair).collect();
        query(sql).bind(keys).bind(column).bind(repair).execute(tx).await?;
        Ok(())
    }

    /// Fails unless the stage is the one that this run filled. A crash of PostgreSQL empties unlogged tables.
    pub async fn check_epoch(&self, tx: &mut PgConnection) -> Result<()> {
        let sql = fill("select run_id from {epoch}", &[("epoch", &self.own("stage_epoch"))]);
        let found: Option<Uuid> = query_scalar(sql)
            .fetch_optional(tx)
            .await
            .during(&self.green, "cannot read the epoch of the staging tables")?;
        if found == Some(self.run) {
            return Ok(());
        }
        Err(Error::refused("the staging tables are not those that this run filled; nothing was applied")
            .detail(
                "PostgreSQL was restarted after a crash, or another kongferry process uses this database.",
            )
            .remedy("Run the command again: it fills the staging tables again."))
    }

    /// Drops all staging tables of our schema.
    pub async fn drop_tables(&self) -> Result<()> {
        let drop = self.green.write("cannot drop the staging tables on green", async |tx| {
            let names: Vec<String> = query_scalar(include_str!("../../sql/stage/leftover_tables.sql"))
                .bind(self.green.work_schema())
                .fetch_all(&mut *tx)
                .await?;
            if !names.is_empty() {
                let tables: Vec<String> = names.iter().map(|name| self.own(name)).collect();
                let sql = fill("drop table {tables}", &[("tables", &tables.join(", "))]);
                sqlx::raw_sql(sql).execute(tx).await?;
            }
            Ok(())
        });
        drop.await
    }

    /// Updates the planner's statistics of the staging tables.
    pub async fn analyze(&self, plan: &KeyspacePlan) -> Result<()> {
        let analyze = self.green.write("cannot analyze the staging tables on green", async |tx| {
            // A tenth of the usual sample gives sizes precise enough for joins of whole tables.
            sqlx::raw_sql("set local default_statistics_target = 10").execute(&mut *tx).await?;
            for table in &plan.moved {
                let sql = fill("analyze {stage}", &[("stage", &self.table(&table.table))]);
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
            Ok(())
        });
        analyze.await
    }
}

/// The staging table of one of Kong's. `stage_of_` keeps it apart from tables of our own, whatever a plugin calls its
/// tables: `reject` is staged as `stage_of_reject`, and rejected rows are in `stage_reject`.
fn stage_name(table: &str) -> String {
    own_table_name("stage_of_", table)
}

/// The SQLSTATE, where PostgreSQL refused the data rather than the statement: class 22 (data exception), 54
/// (a limit such as its stack), 23 (a domain's constraint).
fn data_error(error: &sqlx::Error) -> Option<String> {
    let code = super::explain::sqlstate(error)?;
    ["22", "23", "54"].iter().any(|class| code.starts_with(class)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_stay_apart_and_short() {
        let long = "a".repeat(62);
        let longer = "a".repeat(63);
        assert_ne!(stage_name(&long), stage_name(&longer));
        assert!(stage_name(&longer).len() <= 63);
        assert_eq!(stage_name("routes"), "stage_of_routes");
    }

    /// Whatever a plugin calls its tables: none of ours is confused with another.
    #[test]
    fn names_of_our_own_tables_stay_apart() {
        let prefixes = [
            "stage_of_",
            "stage_delete_",
            "stage_changed_",
            "stage_probe_",
            "stage__ledger_",
            "stage__key_",
            "ledger_",
            "key_of_ledger_",
        ];
        let own = include_str!("../../sql/stage/create.sql")
            .split("{work}.")
            .chain(include_str!("../../sql/row_repair/create.sql").split("{work}."))
            .chain(include_str!("../../sql/journal/create.sql").split("{work}."))
            .skip(1)
            .filter_map(|rest| rest.split([' ', ';', '(']).next());
        let mut seen = 0;
        for name in own {
            seen += 1;
            assert!(
                prefixes.iter().all(|prefix| !name.starts_with(prefix)),
                "{name} may be a table of Kong's"
            );
        }
        assert!(seen >= 8, "{seen} names found");
        for (at, prefix) in prefixes.iter().enumerate() {
            for other in prefixes.iter().skip(at + 1) {
                assert!(
                    !prefix.starts_with(other) && !other.starts_with(prefix),
                    "{prefix} and {other} overlap"
                );
            }
        }
    }

    #[test]
    fn a_buffer_returns_any_range_of_rows() {
        let buffer = RowBuffer { bytes: b"aabbbc".to_vec(), starts: vec![0, 2, 5] };
        assert_eq!(buffer.rows(0..3), b"aabbbc");
        assert_eq!(buffer.rows(1..2), b"bbb");
        assert_eq!(buffer.rows(2..3), b"c");
        assert_eq!(buffer.rows(3..3), b"");
    }
}
