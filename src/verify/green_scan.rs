//! Green, read by binary COPY in one snapshot: whole tables by block range in parallel, a sample of the blocks, or
//! single rows. What Kong would not see – rows whose time has run out – is not read.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Share;
use super::rules::Table;
use super::scan::{Sink, spawned};
use super::spool::Digest128;
use crate::error::{Error, Kind, Result};
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{literal, quote};
use crate::green::statement::query_scalar;

/// The first server that reads a range of blocks without going through all of them.
const SINCE: i32 = 140_000;

/// Blocks that a part of a table should have: below, one stream is as quick.
const BLOCKS_PER_PART: i64 = 2_000;

/// Blocks of a table from which on a sample takes some of them only.
const BLOCKS_TO_SAMPLE: i64 = 32;

/// Streams of one table at the same time.
const MOST_PARTS: i64 = 4;

/// What every binary COPY begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Reads one table of green.
#[derive(Clone)]
pub struct GreenScan {
    /// Where from.
    pub green: Green,
    /// By which rules.
    pub table: Arc<Table>,
    /// Where to.
    pub sink: Sink,
}

impl GreenScan {
    /// Reads the table, or a share of its blocks.
    pub async fn run(&self, share: Share) -> Result<()> {
        let mut tx = self.green.begin_snapshot().await?;
        let blocks = self.blocks(&mut tx).await?;
        let parts = if self.green.server_version_num() >= SINCE { blocks / BLOCKS_PER_PART } else { 1 };
        match share {
            Share::Sample(percent) if self.table.by_id.is_some() && blocks > BLOCKS_TO_SAMPLE => {
                self.copy(&mut tx, &format!("tablesample system ({percent:.4})"), "true").await?;
            }
            _ if parts > 1 => self.in_parts(&mut tx, blocks, parts.min(MOST_PARTS)).await?,
            _ => self.copy(&mut tx, "", "true").await?,
        }
        tx.rollback().await.during(&self.green, &self.what())
    }

    /// Reads the rows with these ids, of whatever workspace.
    pub async fn by_id(&self, column: &str, ids: &[Digest128]) -> Result<()> {
        let list: Vec<String> = ids.iter().map(|id| format!("'{}'", Uuid::from_bytes(*id))).collect();
        let wanted = format!("{} in ({})", quote(column), list.join(", "));
        let mut tx = self.green.begin_snapshot().await?;
        self.rows(&mut tx, "", &wanted).await?;
        tx.rollback().await.during(&self.green, &self.what())
    }

    /// Reads the table of all workspaces, in one stream.
    pub async fn everywhere(&self) -> Result<()> {
        let mut tx = self.green.begin_snapshot().await?;
        self.rows(&mut tx, "", "true").await?;
        tx.rollback().await.during(&self.green, &self.what())
    }

    /// Blocks on disk; none for what has no storage of its own, such as a partitioned table.
    async fn blocks(&self, tx: &mut PgConnection) -> Result<i64> {
        let sql = "select pg_relation_size(to_regclass($1)) / current_setting('block_size')::bigint";
        let blocks: Option<i64> = query_scalar(sql)
            .bind(quote(&self.table.name))
            .fetch_one(tx)
            .await
            .during(&self.green, &self.what())?;
        Ok(blocks.unwrap_or(0))
    }

    /// Several streams that see the state that `tx` sees.
    async fn in_parts(&self, tx: &mut PgConnection, blocks: i64, parts: i64) -> Result<()> {
        let snapshot: String = query_scalar("select pg_export_snapshot()")
            .fetch_one(tx)
            .await
            .during(&self.green, &self.what())?;
        let each = blocks / parts;
        let range = |part: i64| {
            let from = format!("ctid >= '({},0)'::tid", part * each);
            // Nothing bounds the last part: the table may have grown since its size was asked.
            if part + 1 < parts {
                format!("{from} and ctid < '({},0)'::tid", (part + 1) * each)
            } else {
                from
            }
        };
        let streams = (0..parts).map(|part| {
            let (scan, snapshot, range) = (self.clone(), literal(&snapshot), range(part));
            spawned(async move {
                let what = scan.what();
                let mut tx = scan.green.begin_snapshot().await?;
                let sql = sqlx::AssertSqlSafe(format!("set transaction snapshot {snapshot}"));
                sqlx::raw_sql(sql).execute(&mut *tx).await.during(&scan.green, &what)?;
                scan.copy(&mut tx, "", &range).await?;
                tx.rollback().await.during(&scan.green, &what)
            })
        });
        let streams: Vec<_> = streams.collect();
        futures::stream::iter(streams)
            .buffer_unordered(MOST_PARTS.unsigned_abs() as usize)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    /// Rows that the comparison is about.
    async fn copy(&self, tx: &mut PgConnection, sample: &str, which: &str) -> Result<()> {
        let which = format!("{which} and {}", self.table.scope_on_green());
        self.rows(tx, sample, &which).await
    }

    async fn rows(&self, tx: &mut PgConnection, sample: &str, which: &str) -> Result<()> {
        let table = &self.table;
        let mut columns: Vec<String> = table.columns.iter().map(|column| quote(&column.name)).collect();
        columns.extend(table.expiry.as_deref().map(quote));
        let alive = table.expiry.as_deref().map_or_else(
            || "true".to_owned(),
            |expiry| format!("({0} is null or {0} >= now())", quote(expiry)),
        );
        let sql = format!(
            "copy (select {} from {} {sample} where {which} and {alive}) to stdout (format binary)",
            columns.join(", "),
            quote(&table.name)
        );
        let mut stream = tx.copy_out_raw(&sql).await.during(&self.green, &self.what())?;
        let mut copy = Copied::default();
        while let Some(bytes) = stream.try_next().await.during(&self.green, &self.what())? {
            let read = copy.read(bytes, |fields| (self.sink)(table.of_green(fields)));
            read.ok_or_else(|| self.unreadable())??;
        }
        Ok(())
    }

    fn what(&self) -> String {
        format!("cannot read green's table \"{}\"", self.table.name)
    }

    fn unreadable(&self) -> Error {
        Error::new(Kind::Server, format!("{}: its rows are not in COPY's binary format", self.what()))
            .remedy("Connect to PostgreSQL itself, not to something that only resembles it.")
    }
}

/// A binary COPY, taken apart as it comes. Nothing trusts a length: every read is bounded by what is there.
#[derive(Debug, Default)]
struct Copied {
    /// What came of a row whose end has not come yet.
    left: Vec<u8>,
    begun: bool,
    ended: bool,
}

impl Copied {
    /// Shows each whole row; nothing where the bytes are no COPY. The inner error is the row's receiver's.
    fn read(
        &mut self,
        bytes: Bytes,
        mut row: impl FnMut(&[Option<&[u8]>]) -> Result<()>,
    ) -> Option<Result<()>> {
        let mut joined = std::mem::take(&mut self.left);
        let mut rest: &[u8] = if joined.is_empty() {
            bytes.chunk()
        } else {
            joined.extend_from_slice(&bytes);
            &joined
        };
        if !self.begun {
            let Some(behind) = header(rest)? else {
                self.left = rest.to_vec();
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
                    self.left = rest.to_vec();
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

/// What comes after the header, once all of it is there.
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
        let (mut copy, mut rows) = (Copied::default(), Vec::new());
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
            let mut copy = Copied { begun, ..Copied::default() };
            let _ = copy.read(Bytes::from(bytes), |_| Ok(()));
        }
    }
}
