//! When rows were written last, by blue's own clock. It explains and decides nothing: Cassandra knows no time of a key
//! or of a deleted row, and clients may have set any.

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;

use super::scan::{Page, TableReader, TokenRange};
use super::session::{Blue, quote};
use crate::catalog::blue::{BlueTable, ColumnKind};
use crate::cql::cell;
use crate::error::Result;

/// Places that are asked about at most.
const PLACES: usize = 1000;

const AT_ONCE: usize = 4;

impl Blue {
    /// The newest write to any row at these places on the ring, in microseconds since 1970; none where the table has no
    /// column whose time can be asked for. Of many places the first thousand are asked about.
    pub async fn newest_write(&self, table: &BlueTable, places: &[i64]) -> Result<Option<i64>> {
        // Of collections there is one time per element, and before 5.0 none can be asked for; of counters there is none.
        let times: Vec<String> = table
            .columns
            .iter()
            .filter(|column| column.kind == ColumnKind::Regular)
            .filter(|column| !column.cql_type.is_collection() && !column.cql_type.is("counter"))
            .map(|column| format!("writetime({})", quote(&column.name)))
            .collect();
        if times.is_empty() || places.is_empty() {
            return Ok(None);
        }
        let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
        let reader = self.reader(&table.name, &times.join(", "), &key).await?;
        let reader = &reader;
        let all = places.iter().take(PLACES).map(|place| self.newest_at(reader, *place));
        futures::stream::iter(all)
            .buffer_unordered(AT_ONCE)
            .try_fold(None, |newest, time| async move { Ok(newest.max(time)) })
            .await
    }

    async fn newest_at(&self, reader: &TableReader, place: i64) -> Result<Option<i64>> {
        let range = TokenRange { after: place.saturating_sub(1), up_to: place };
        let (mut newest, mut from) = (None, PagingState::start());
        loop {
            let page = self.page(reader, range, from, Page::first_rows()).await?;
            let read = page.for_each(|cells| {
                let times = cells.iter().flatten().filter_map(|bytes| cell::bigint(bytes).ok());
                newest = newest.max(times.max());
            });
            read.map_err(|e| self.explain(e, "cannot read the write times of rows"))?;
            match page.next {
                Some(next) => from = next,
                None => return Ok(newest),
            }
        }
    }
}
