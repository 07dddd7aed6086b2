//! Reading tables whole: token ranges of the ring, pages of raw rows, and the retries that reading may safely have.
//!
//! The nodes that hold a range are asked for it, and no more at once than blue keeps up with. A page is asked for again when the cluster is overloaded, a request times out or a connection breaks: reading
//! changes nothing, and the paging state says exactly where the page begins.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use scylla::deserialize::row::ColumnIterator;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlValue;

use super::failure::ReadFailure;
use super::session::{Blue, quote};
use super::throttle::Permit;
use super::token_routing::RangeOwner;
use crate::error::{Error, Result};

/// Rows of the first page of a table, before it is known how long its rows are.
const FIRST_PAGE_ROWS: i32 = 200;

/// Rows a page may have at most.
const MOST_ROWS: i32 = 5000;

/// What a page should weigh: large enough to be worth a round trip, small enough to keep memory flat.
const PAGE_BYTES: usize = 1 << 20;

/// How often a page is asked for before we give up: for about a minute, which a node that is restarted needs.
const ATTEMPTS: u32 = 9;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

fn pause_after(attempt: u32) -> Duration {
    (Duration::from_millis(250) * 2_u32.pow(attempt.min(10))).min(LONGEST_PAUSE)
}

/// A part of the ring: tokens after `after`, up to and including `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRange {
    /// The token before the first one.
    pub after: i64,
    pub up_to: i64,
}

impl TokenRange {
    /// All tokens of Murmur3.
    pub const WHOLE: TokenRange = TokenRange { after: i64::MIN, up_to: i64::MAX };
}

/// One table, prepared to be read by token range.
#[derive(Debug)]
pub struct TableReader {
    table: String,
    statement: PreparedStatement,
    /// What the statement wants, where that is not the bounds of a token range.
    values: Option<Vec<CqlValue>>,
}

impl TableReader {
    /// For a statement that wants these values: it reads the same rows, whatever range it is asked for.
    pub(super) fn with(self, values: Vec<CqlValue>) -> TableReader {
        TableReader { values: Some(values), ..self }
    }
}

#[derive(Debug)]
pub struct Page {
    rows: QueryRowsResult,
    /// Where the next page begins, if there is one.
    pub next: Option<PagingState>,
}

impl Blue {
    /// Prepares reading of `select` (a list of CQL expressions) from a table.
    pub async fn reader(&self, table: &str, select: &str, partition_key: &[String]) -> Result<TableReader> {
        let key = partition_key.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
        let cql = format!(
            "SELECT {select} FROM {} WHERE token({key}) > ? AND token({key}) <= ?",
            self.table(table)
        );
        self.prepare(table, cql).await
    }

    /// Prepares reading of `select` from the rows of one key; a value for each of `key` is given with every page.
    pub async fn row_reader(&self, table: &str, select: &str, key: &[String]) -> Result<TableReader> {
        let conditions: Vec<String> = key.iter().map(|name| format!("{} = ?", quote(name))).collect();
        let cql = format!("SELECT {select} FROM {} WHERE {}", self.table(table), conditions.join(" AND "));
        self.prepare(table, cql).await
    }

    /// Prepares a statement that reads a table.
    pub(super) async fn prepare(&self, table: &str, cql: String) -> Result<TableReader> {
        let mut attempt = 1;
        let mut statement = loop {
            match self.session().prepare(cql.clone()).await {
                Ok(statement) => break statement,
                Err(error) => self.wait_to_retry(table, error.into(), &mut attempt).await?,
            }
        };
        statement.set_is_idempotent(true);
        Ok(TableReader { table: table.to_owned(), statement, values: None })
    }

    /// Waits until a failed read of a table is repeated; returns the error where it is not.
    async fn wait_to_retry(&self, table: &str, failure: ReadFailure, attempt: &mut u32) -> Result<()> {
        if *attempt >= ATTEMPTS || !failure.is_transient() {
            return Err(self.unreadable(table, failure));
        }
        tracing::warn!(table, attempt, "Blue did not answer; retrying.");
        tokio::time::sleep(pause_after(*attempt)).await;
        *attempt += 1;
        Ok(())
    }

    pub fn unreadable(&self, table: &str, failure: ReadFailure) -> Error {
        self.explain(failure, &format!("cannot read the table \"{table}\""))
    }

    /// Counts a table's rows, range by range, on the servers.
    pub async fn count(&self, table: &str, partition_key: &[String]) -> Result<u64> {
        use futures::{StreamExt, TryStreamExt};
        let reader = self.reader(table, "count(*)", partition_key).await?;
        let ranges = self.ranges(COUNT_RANGES);
        let counts =
            futures::stream::iter(ranges).map(|range| self.count_range(&reader, range)).buffer_unordered(4);
        counts.try_fold(0, |sum, count| async move { Ok(sum + count) }).await
    }

    async fn count_range(&self, reader: &TableReader, range: TokenRange) -> Result<u64> {
        // The answer is one row; the page is what the server itself reads at a time while it counts.
        let page = self.page(reader, range, PagingState::start(), MOST_ROWS).await?;
        let mut count = 0_i64;
        page.for_each(|cells| {
            count = cells
                .first()
                .copied()
                .flatten()
                .and_then(|cell| crate::cql::cell::bigint(cell).ok())
                .unwrap_or(0);
        })
        .map_err(|e| self.explain(e, &format!("cannot count the rows of table \"{}\"", reader.table)))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Reads one page. `rows` is how many it may have.
    pub async fn page(
        &self,
        reader: &TableReader,
        range: TokenRange,
        from: PagingState,
        rows: i32,
    ) -> Result<Page> {
        let mut statement = reader.statement.clone();
        if let Some(values) = &reader.values {
            return self.page_of(reader, statement, values, from, rows).await;
        }
        if range != TokenRange::WHOLE {
            statement.set_load_balancing_policy(Some(Arc::new(RangeOwner::new(
                range.up_to,
                self.load_balancing(),
            ))));
        }
        self.page_of(reader, statement, (range.after, range.up_to), from, rows).await
    }

    /// Reads the rows of one key, of which there are few.
    pub async fn row(&self, reader: &TableReader, key: &[CqlValue]) -> Result<Page> {
        self.page_of(reader, reader.statement.clone(), key, PagingState::start(), MOST_ROWS).await
    }

    async fn page_of(
        &self,
        reader: &TableReader,
        mut statement: PreparedStatement,
        values: impl SerializeRow,
        from: PagingState,
        rows: i32,
    ) -> Result<Page> {
        statement.set_page_size(rows.clamp(1, self.config().page_size.clamp(1, MOST_ROWS)));
        let mut attempt = 1;
        let (result, next) = loop {
            let permit = self.throttle().enter().await;
            match self.session().execute_single_page(&statement, &values, from.clone()).await {
                Ok(page) => {
                    permit.into_iter().for_each(Permit::answered);
                    break page;
                }
                Err(error) => {
                    permit.into_iter().for_each(Permit::failed);
                    self.wait_to_retry(&reader.table, error.into(), &mut attempt).await?;
                }
            }
        };
        let rows =
            result.into_rows_result().map_err(|e| self.unreadable(&reader.table, ReadFailure::other(e)))?;
        let next = match next.into_paging_control_flow() {
            ControlFlow::Continue(state) => Some(state),
            ControlFlow::Break(()) => None,
        };
        Ok(Page { rows, next })
    }

    /// All rows of a small query, decoded.
    pub async fn rows<R>(&self, cql: &str, values: impl SerializeRow, action: &str) -> Result<Vec<R>>
    where
        R: for<'f> scylla::deserialize::row::DeserializeRow<'f, 'f>,
    {
        let result = self.session().query_unpaged(cql, values).await.map_err(|e| self.explain(e, action))?;
        let rows = result.into_rows_result().map_err(|e| self.explain(ReadFailure::other(e), action))?;
        let decoded = rows.rows::<R>().map_err(|e| self.explain(ReadFailure::other(e), action))?;
        decoded.collect::<Result<Vec<R>, _>>().map_err(|e| self.explain(ReadFailure::other(e), action))
    }

    /// The ring, cut at every node's tokens and then into at least `parts` parts.
    pub fn ranges(&self, parts: usize) -> VecDeque<TokenRange> {
        let state = self.session().get_cluster_state();
        let mut tokens: Vec<i64> =
            state.replica_locator().ring().iter().map(|(token, _)| token.value()).collect();
        tokens.sort_unstable();
        tokens.dedup();
        split(&tokens, parts)
    }
}

/// How many parts of the ring are counted one after another: each part must be counted within a request's time-out.
const COUNT_RANGES: usize = 16;

/// Cuts the ring at these tokens (ascending), then each part evenly, so that there are about `parts` parts.
fn split(tokens: &[i64], parts: usize) -> VecDeque<TokenRange> {
    let mut bounds = vec![i64::MIN];
    bounds.extend(tokens.iter().copied().filter(|&token| token != i64::MIN && token != i64::MAX));
    bounds.push(i64::MAX);
    // Parts of equal width rather than equal number: with random tokens a few parts would hold most of the ring.
    let step = (u128::from(u64::MAX) / parts.max(1) as u128).max(1);
    let mut ranges = VecDeque::new();
    for pair in bounds.windows(2) {
        let &[mut after, end] = pair else { continue };
        loop {
            let next = i128::from(after) + step as i128;
            if next >= i128::from(end) {
                break;
            }
            let up_to = i64::try_from(next).unwrap_or(end);
            ranges.push_back(TokenRange { after, up_to });
            after = up_to;
        }
        ranges.push_back(TokenRange { after, up_to: end });
    }
    ranges
}

impl Page {
    pub fn len(&self) -> usize {
        self.rows.rows_num()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows the next page should have, judged by the weight of this one's.
    pub fn next_rows(&self) -> i32 {
        if self.is_empty() {
            return FIRST_PAGE_ROWS;
        }
        let weight = (self.rows.rows_bytes_size() / self.len()).max(1);
        i32::try_from(PAGE_BYTES / weight).unwrap_or(MOST_ROWS).clamp(1, MOST_ROWS)
    }

    /// Rows that a table's first page should have.
    pub fn first_rows() -> i32 {
        FIRST_PAGE_ROWS
    }

    /// Shows every row as its cells; `None` is null. Nothing is copied.
    pub fn for_each<'p>(&'p self, mut row: impl FnMut(&[Option<&'p [u8]>])) -> Result<(), ReadFailure> {
        let mut cells: Vec<Option<&'p [u8]>> = Vec::new();
        for columns in self.rows.rows::<ColumnIterator<'p, 'p>>().map_err(ReadFailure::other)? {
            cells.clear();
            for column in columns.map_err(ReadFailure::other)? {
                cells.push(column.map_err(ReadFailure::other)?.slice.map(|slice| slice.as_slice()));
            }
            row(&cells);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_cover_the_ring_once(mut tokens in proptest::collection::vec(any::<i64>(), 0..20), parts in 1_usize..200) {
            tokens.sort_unstable();
            tokens.dedup();
            let ranges = split(&tokens, parts);
            prop_assert_eq!(ranges.front().map(|range| range.after), Some(i64::MIN));
            prop_assert_eq!(ranges.back().map(|range| range.up_to), Some(i64::MAX));
            for (range, next) in ranges.iter().zip(ranges.iter().skip(1)) {
                prop_assert_eq!(range.up_to, next.after);
                prop_assert!(range.after < range.up_to);
            }
            prop_assert!(ranges.len() >= parts);
        }
    }
}
