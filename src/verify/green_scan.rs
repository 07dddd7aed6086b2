//! Reads green by binary COPY in one snapshot: whole tables by block range in parallel, a sample of the blocks, or
//! single rows. Expired rows, which Kong does not read, are not read here either.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use sqlx::PgConnection;
use uuid::Uuid;

use super::blue_scan::{RowSink, spawn_task};
use super::options::Coverage;
use super::reading_rules::ReadingRules;
use super::row_digests::RowKey;
use crate::error::{Error, Kind, Result};
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{literal, quote};
use crate::green::statement::query_scalar;

/// The first version of PostgreSQL that reads a range of blocks without a scan of the whole table.
const SINCE: i32 = 140_000;

/// Blocks of one part; for a smaller table one stream is as fast.
const BLOCKS_PER_PART: i64 = 2_000;

/// Smaller tables are read whole even for a sample.
const BLOCKS_TO_SAMPLE: i64 = 32;

/// Streams of one table at the same time.
const MAX_PARTS: i64 = 4;

/// The first bytes of every binary COPY.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

#[derive(Clone)]
pub(super) struct GreenScan {
    pub(super) green: Green,
    pub(super) table: Arc<ReadingRules>,
    pub(super) sink: RowSink,
}

impl GreenScan {
    /// Reads the table, or a sample of its blocks.
    pub(super) async fn run(&self, coverage: Coverage) -> Result<()> {
        let mut tx = self.green.begin_snapshot().await?;
        let blocks = self.blocks(&mut tx).await?;
        let parts = if self.green.server_version_num() >= SINCE { blocks / BLOCKS_PER_PART } else { 1 };
        match coverage {
            Coverage::Sample(percent) if self.table.by_id.is_some() && blocks > BLOCKS_TO_SAMPLE => {
                self.copy(&mut tx, &format!("tablesample system ({percent:.4})"), "true").await?;
            }
            _ if parts > 1 => self.in_parts(&mut tx, blocks, parts.min(MAX_PARTS)).await?,
            _ => self.copy(&mut tx, "", "true").await?,
        }
        tx.rollback().await.during(&self.green, self.action())
    }

    /// Reads the rows with these ids, of any workspace.
    pub(super) async fn by_id(&self, column: &str, ids: &[RowKey]) -> Result<()> {
        let list: Vec<String> = ids.iter().map(|id| format!("'{}'", Uuid::from_bytes(*id))).collect();
        let has_id = format!("{} in ({})", quote(column), list.join(", "));
        self.green.read(&self.action(), async |tx| Ok(self.rows(tx, "", &has_id).await?)).await
    }

    /// Reads the rows of all workspaces, in one stream.
    pub(super) async fn all_workspaces(&self) -> Result<()> {
        self.green.read(&self.action(), async |tx| Ok(self.rows(tx, "", "true").await?)).await
    }

    /// Blocks on disk; 0 for a table without storage of its own, such as a partitioned one.
    async fn blocks(&self, tx: &mut PgConnection) -> Result<i64> {
        let sql = "select pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint";
        let blocks: Option<i64> = query_scalar(sql)
            .bind(quote(&self.table.name))
            .fetch_one(tx)
            .await
            .during(&self.green, self.action())?;
        Ok(blocks.unwrap_or(0))
    }

    /// Reads in several streams that share the snapshot of `tx`.
    async fn in_parts(&self, tx: &mut PgConnection, blocks: i64, parts: i64) -> Result<()> {
        let snapshot: String = query_scalar("select pg_export_snapshot()")
            .fetch_one(tx)
            .await
            .during(&self.green, self.action())?;
        let each = blocks / parts;
        let range = |part: i64| {
            let from = format!("ctid >= '({},0)'::tid", part * each);
            // The last part has no upper bound: the table may have grown since its size was read.
            if part + 1 < parts {
                format!("{from} and ctid < '({},0)'::tid", (part + 1) * each)
            } else {
                from
            }
        };
        let streams = (0..parts).map(|part| {
            let (scan, snapshot, range) = (self.clone(), literal(&snapshot), range(part));
            spawn_task(async move {
                let action = scan.action();
                let mut tx = scan.green.begin_snapshot().await?;
                let sql = sqlx::AssertSqlSafe(format!("set transaction snapshot {snapshot}"));
                sqlx::raw_sql(sql).execute(&mut *tx).await.during(&scan.green, &action)?;
                scan.copy(&mut tx, "", &range).await?;
                tx.rollback().await.during(&scan.green, &action)
            })
        });
        let streams: Vec<_> = streams.collect();
        futures::stream::iter(streams)
            .buffer_unordered(MAX_PARTS.unsigned_abs() as usize)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Reads the rows of the compared workspaces.
    async fn copy(&self, tx: &mut PgConnection, sample: &str, condition: &str) -> Result<()> {
        let condition = format!("{condition} and {}", self.table.workspace_condition());
        self.rows(tx, sample, &condition).await
    }

    async fn rows(&self, tx: &mut PgConnection, sample: &str, condition: &str) -> Result<()> {
        let table = &self.table;
        let mut columns: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
        columns.extend(table.expiry.as_deref().map(quote));
        let not_expired = table.expiry.as_deref().map_or_else(
            || "true".to_owned(),
            |expiry| format!("({0} is null or {0} >= now())", quote(expiry)),
        );
        let sql = format!(
            "copy (select {} from {} {sample} where {condition} and {not_expired}) to stdout (format binary)",
            columns.join(", "),
            quote(&table.name)
        );
        let mut stream = tx.copy_out_raw(&sql).await.during(&self.green, self.action())?;
        let mut copy = CopyStream::default();
        while let Some(bytes) = stream.try_next().await.during(&self.green, self.action())? {
            let read = copy.read(bytes, |fields| (self.sink)(table.read_green(fields)));
            read.ok_or_else(|| self.unreadable())??;
        }
        Ok(())
    }

    fn action(&self) -> String {
        format!("cannot read green's table \"{}\"", self.table.name)
    }

    fn unreadable(&self) -> Error {
        Error::new(Kind::Server, format!("{}: its rows are not in COPY's binary format", self.action()))
            .remedy("Connect to PostgreSQL itself, not to a server that imitates it.")
    }
}

/// Decodes a binary COPY as it arrives. Every length is checked against the bytes that are there.
#[derive(Debug, Default)]
struct CopyStream {
    /// The bytes of a row whose end has not arrived.
    incomplete: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl CopyStream {
    /// Hands each complete row to `row`; `None` where the bytes are no COPY. The inner error is that of `row`.
    fn read(
        &mut self,
        bytes: Bytes,
        mut row: impl FnMut(&[Option<&[u8]>]) -> Result<()>,
    ) -> Option<Result<()>> {
        let mut joined = std::mem::take(&mut self.incomplete);
        let mut rest: &[u8] = if joined.is_empty() {
            bytes.chunk()
        } else {
            joined.extend_from_slice(&bytes);
            &joined
        };
        if !self.begun {
            let Some(behind) = header(rest)? else {
                self.incomplete = rest.to_vec();
                return Some(Ok(()));
            };
            rest = behind;
            self.begun = true;
        }
        let mut fields = Vec::new();
        while !rest.is_empty() {
            if self.ended {
                return None;
            }
            match tuple(rest, &mut fields)? {
                Tuple::Whole(behind) => {
                    if let Err(error) = row(&fields) {
                        return Some(Err(error));
                    }
                    rest = behind;
                }
                Tuple::End(behind) => {
                    self.ended = true;
                    rest = behind;
                }
                Tuple::Cut => {
                    self.incomplete = rest.to_vec();
                    break;
                }
            }
        }
        Some(Ok(()))
    }
}

enum Tuple<'a> {
    Whole(&'a [u8]),
    End(&'a [u8]),
    Cut,
}

/// The bytes after the header; `Some(None)` while the header is incomplete.
fn header(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let head = bytes.get(..SIGNATURE.len().min(bytes.len()))?;
    if !SIGNATURE.starts_with(head) {
        return None;
    }
    let Some(length) = bytes.get(15..19) else { return Some(None) };
    let length = usize::try_from(u32::from_be_bytes(length.try_into().ok()?)).ok()?;
    Some(bytes.get(19_usize.checked_add(length)?..))
}

fn tuple<'a>(bytes: &'a [u8], fields: &mut Vec<Option<&'a [u8]>>) -> Option<Tuple<'a>> {
    fields.clear();
    let Some((count, mut rest)) = bytes.split_at_checked(2) else { return Some(Tuple::Cut) };
    let count = i16::from_be_bytes(count.try_into().ok()?);
    if count == -1 {
        return Some(Tuple::End(rest));
    }
    for _ in 0..u16::try_from(count).ok()? {
        let Some((length, behind)) = rest.split_at_checked(4) else { return Some(Tuple::Cut) };
        let length = i32::from_be_bytes(length.try_into().ok()?);
        if length == -1 {
            fields.push(None);
            rest = behind;
            continue;
        }
        let Some((field, behind)) = behind.split_at_checked(usize::try_from(length).ok()?) else {
            return Some(Tuple::Cut);
        };
        fields.push(Some(field));
        rest = behind;
    }
    Some(Tuple::Whole(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        bytes.extend([0; 8]);
        for row in rows {
            bytes.extend((row.len() as i16).to_be_bytes());
            for field in row {
                bytes.extend(field.as_ref().map_or(-1, |field| field.len() as i32).to_be_bytes());
                bytes.extend(field.iter().flatten());
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    fn read(pieces: &[&[u8]]) -> Option<Vec<Vec<Option<Vec<u8>>>>> {
        let (mut copy, mut rows) = (CopyStream::default(), Vec::new());
        for piece in pieces {
            let read = copy.read(Bytes::copy_from_slice(piece), |fields| {
                rows.push(fields.iter().map(|field| field.map(<[u8]>::to_vec)).collect());
                Ok(())
            });
            read?.ok()?;
        }
        Some(rows)
    }

    proptest! {
        #[test]
        fn rows_come_back_however_they_are_cut(
            rows in proptest::collection::vec(proptest::collection::vec(any::<Option<Vec<u8>>>(), 0..4), 0..6),
            cut in any::<proptest::sample::Index>(),
        ) {
            let bytes = encoded(&rows);
            let (one, other) = bytes.split_at(cut.index(bytes.len()));
            prop_assert_eq!(read(&[one, other]), Some(rows));
        }

        #[test]
        fn hostile_bytes_end(bytes in any::<Vec<u8>>(), begun in any::<bool>()) {
            let mut copy = CopyStream { begun, ..CopyStream::default() };
            let _ = copy.read(Bytes::from(bytes), |_| Ok(()));
        }
    }
}
