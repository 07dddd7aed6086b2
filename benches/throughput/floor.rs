//! What the machine can do at best: reading blue and dropping the rows, writing rows that are encoded already.
//!
//! Nothing of kongferry is in here, so that its floor does not fall with it.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use kongferry::error::Result;
use kongferry_harness::postgres::Database;
use scylla::client::session::Session;
use scylla::deserialize::row::ColumnIterator;
use scylla::response::PagingState;
use scylla::statement::prepared::PreparedStatement;
use sqlx::{Connection, PgConnection};

use crate::servers::{Servers, failed};

/// Parts of the ring that a table is read in.
const RANGES: i64 = 32;

const PAGE: i32 = 5000;

/// Bytes that are sent at a time.
const CHUNK: usize = 1 << 20;

/// Tables that are copied at the same time.
const COPIES: usize = 2;

pub struct Floor {
    session: Arc<Session>,
    statements: Vec<PreparedStatement>,
    tables: &'static [&'static str],
    /// For each table the whole stream of a binary COPY, in pieces.
    rows: Vec<Vec<Vec<u8>>>,
}

impl Floor {
    /// Prepares reading from blue, and takes the rows to write from a green that kongferry has filled.
    pub async fn prepare(servers: &Servers, filled: &Database) -> Result<Floor> {
        let session = Arc::new(servers.blue().endpoint().session().await?);
        let tables = servers.tables();
        let (mut statements, mut rows) = (Vec::new(), Vec::new());
        for table in tables {
            statements.push(prepare(&session, servers.blue().name(), table).await?);
            rows.push(encoded(filled, table).await?);
        }
        Ok(Floor { session, statements, tables, rows })
    }

    /// The tables with the many rows.
    pub fn tables(&self) -> &'static [&'static str] {
        self.tables
    }

    /// Reads every column of every row and drops it, with `parallel` requests under way at once.
    pub async fn scan(&self, parallel: usize) -> Result<()> {
        let parts = self.statements.iter().flat_map(|statement| {
            ranges().map(|range| tokio::spawn(scan_part(self.session.clone(), statement.clone(), range)))
        });
        // Tasks start when they are made, so they are made only as others end.
        let all = stream::iter(parts).buffer_unordered(parallel);
        let touched = all
            .map(|task| task.map_err(|e| failed("a task ended", e))?)
            .try_fold(0, |sum, one| async move { Ok(sum + one) });
        std::hint::black_box(touched.await?);
        Ok(())
    }

    /// Makes the tables that [`copy`](Self::copy) fills: like Kong's, unlogged, without constraints and indexes.
    pub async fn make_room(&self, green: &Database) -> Result<()> {
        green.execute("create schema staged").await?;
        for table in self.tables {
            green.execute(&format!("create unlogged table staged.{table} (like {table})")).await?;
        }
        Ok(())
    }

    pub async fn copy(&self, green: &Database) -> Result<()> {
        let copies =
            self.tables.iter().zip(&self.rows).map(|(table, pieces)| copy_table(green, table, pieces));
        stream::iter(copies).buffer_unordered(COPIES).try_collect::<()>().await
    }
}

async fn prepare(session: &Session, keyspace: &str, table: &str) -> Result<PreparedStatement> {
    let what = || format!("cannot prepare reading {table}");
    let columns = session
        .query_unpaged(
            "SELECT column_name, kind FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?",
            (keyspace, table),
        )
        .await
        .map_err(|e| failed(what(), e))?
        .into_rows_result()
        .map_err(|e| failed(what(), e))?;
    let (mut names, mut key) = (Vec::new(), Vec::new());
    for column in columns.rows::<(String, String)>().map_err(|e| failed(what(), e))? {
        let (name, kind) = column.map_err(|e| failed(what(), e))?;
        if kind == "partition_key" {
            key.push(format!("\"{name}\""));
        }
        names.push(format!("\"{name}\""));
    }
    let (names, key) = (names.join(", "), key.join(", "));
    let cql = format!("SELECT {names} FROM {keyspace}.{table} WHERE token({key}) > ? AND token({key}) <= ?");
    let mut statement = session.prepare(cql).await.map_err(|e| failed(what(), e))?;
    statement.set_page_size(PAGE);
    Ok(statement)
}

/// The ring in parts of equal width.
fn ranges() -> impl Iterator<Item = (i64, i64)> {
    let bound = |at: i64| {
        let place = i128::from(i64::MIN) + (i128::from(u64::MAX) * i128::from(at)) / i128::from(RANGES);
        i64::try_from(place).unwrap_or(i64::MAX)
    };
    (0..RANGES).map(move |at| (bound(at), bound(at + 1)))
}

async fn scan_part(session: Arc<Session>, statement: PreparedStatement, range: (i64, i64)) -> Result<usize> {
    let what = "cannot read blue";
    let mut touched = 0;
    let mut from = PagingState::start();
    loop {
        let (page, next) =
            session.execute_single_page(&statement, range, from).await.map_err(|e| failed(what, e))?;
        let page = page.into_rows_result().map_err(|e| failed(what, e))?;
        for row in page.rows::<ColumnIterator<'_, '_>>().map_err(|e| failed(what, e))? {
            for cell in row.map_err(|e| failed(what, e))? {
                let cell = cell.map_err(|e| failed(what, e))?;
                touched += cell.slice.map_or(0, |slice| slice.as_slice().len());
            }
        }
        match next.into_paging_control_flow() {
            std::ops::ControlFlow::Continue(state) => from = state,
            std::ops::ControlFlow::Break(()) => return Ok(touched),
        }
    }
}

async fn connect(green: &Database) -> Result<PgConnection> {
    PgConnection::connect_with(green.options()).await.map_err(|e| failed("cannot connect to green", e))
}

/// A table as COPY gives it out, in pieces of about a megabyte.
async fn encoded(green: &Database, table: &str) -> Result<Vec<Vec<u8>>> {
    let what = || format!("cannot copy {table} out");
    let mut connection = connect(green).await?;
    let mut stream = connection
        .copy_out_raw(&format!("copy {table} to stdout (format binary)"))
        .await
        .map_err(|e| failed(what(), e))?;
    let mut pieces = vec![Vec::with_capacity(CHUNK)];
    while let Some(bytes) = stream.try_next().await.map_err(|e| failed(what(), e))? {
        if pieces.last().is_some_and(|last| last.len() + bytes.len() > CHUNK) {
            pieces.push(Vec::with_capacity(CHUNK));
        }
        if let Some(last) = pieces.last_mut() {
            last.extend_from_slice(&bytes);
        }
    }
    Ok(pieces)
}

async fn copy_table(green: &Database, table: &str, pieces: &[Vec<u8>]) -> Result<()> {
    let what = || format!("cannot copy {table} in");
    let mut connection = connect(green).await?;
    let sql = format!("copy staged.{table} from stdin (format binary)");
    let mut copy = connection.copy_in_raw(&sql).await.map_err(|e| failed(what(), e))?;
    for piece in pieces {
        copy.send(piece.as_slice()).await.map_err(|e| failed(what(), e))?;
    }
    copy.finish().await.map_err(|e| failed(what(), e))?;
    connection.close().await.map_err(|e| failed(what(), e))
}
