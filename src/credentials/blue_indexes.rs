//! Finds blue's rows by the value of a column. Kong's tables have secondary indexes for that. Where one is missing, as in
//! a restored keyspace or for a custom plugin, the table is read once for all checks and indexed here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::catalog::blue::BlueTable;
use crate::cql::CqlType;
use crate::error::Result;

/// A hash of the value and the row's id, sorted: 24 bytes a row whatever the length of the values.
type Entries = Vec<(u64, Uuid)>;

type IndexedColumn = (String, String);

/// The columns that blue has indexes for, and indexes of others as far as they were needed.
#[derive(Debug, Default)]
pub(super) struct BlueIndexes {
    indexed: BTreeSet<IndexedColumn>,
    /// What was read of a column without an index, once.
    built: Mutex<BTreeMap<IndexedColumn, Arc<OnceCell<Entries>>>>,
    hasher: RandomState,
}

impl BlueIndexes {
    pub(super) async fn read(blue: &Blue) -> Result<BlueIndexes> {
        let cql = "SELECT table_name, options FROM system_schema.indexes WHERE keyspace_name = ?";
        let action = "cannot read blue's indexes";
        let rows: Vec<(String, std::collections::HashMap<String, String>)> =
            blue.rows(cql, (blue.keyspace(),), action).await?;
        let target = |(table, options): (String, std::collections::HashMap<String, String>)| {
            let target = options.get("target")?;
            Some((table, target.trim_matches('"').to_owned()))
        };
        Ok(BlueIndexes { indexed: rows.into_iter().filter_map(target).collect(), ..BlueIndexes::default() })
    }

    /// Whether Cassandra itself selects by this column; also true where no id could be indexed instead.
    pub(super) fn can_select_by(&self, table: &BlueTable, column: &str) -> bool {
        let key = table.partition_key();
        let has_index = self.indexed.contains(&(table.name.clone(), column.to_owned()));
        has_index || key == [column] || id_column(table).is_none()
    }

    /// Ids of the rows with this value, and of a few whose value has the same hash.
    pub(super) async fn ids(
        &self,
        blue: &Blue,
        table: &BlueTable,
        column: &str,
        value: &[u8],
    ) -> Result<Vec<Uuid>> {
        let Some(id) = id_column(table) else { return Ok(Vec::new()) };
        let cell = {
            let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            built.entry((table.name.clone(), column.to_owned())).or_default().clone()
        };
        let entries = cell.get_or_try_init(|| self.build(blue, table, column, id)).await?;
        let hash = self.hasher.hash_one(value);
        let first = entries.partition_point(|(own, _)| *own < hash);
        let found = entries.iter().skip(first).take_while(|(own, _)| *own == hash);
        Ok(found.map(|(_, id)| *id).collect())
    }

    async fn build(&self, blue: &Blue, table: &BlueTable, column: &str, id: &str) -> Result<Entries> {
        tracing::debug!(table = table.name, column, "Blue has no index here; reading the table once.");
        let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
        let reader = &blue.reader(&table.name, &[id, column].map(quote).join(", "), &key).await?;
        let ranges = futures::stream::iter(blue.ranges(blue.parallel() * 4));
        let parts = ranges.map(|range| self.part(blue, reader, range, &table.name));
        let mut entries: Entries = parts.buffer_unordered(blue.parallel()).try_concat().await?;
        entries.sort_unstable();
        Ok(entries)
    }

    async fn part(
        &self,
        blue: &Blue,
        reader: &TableReader,
        range: TokenRange,
        table: &str,
    ) -> Result<Entries> {
        let mut entries = Vec::new();
        let mut next = Some((PagingState::start(), Page::first_rows()));
        while let Some((from, rows)) = next.take() {
            let page = blue.page(reader, range, from, rows).await?;
            page.for_each(|cells| {
                if let [Some(id), Some(value)] = cells {
                    entries.extend(Uuid::from_slice(id).ok().map(|id| (self.hasher.hash_one(*value), id)));
                }
            })
            .map_err(|e| blue.explain(e, &format!("cannot read the table \"{table}\"")))?;
            next = page.next.clone().map(|from| (from, page.next_rows()));
        }
        Ok(entries)
    }
}

/// The column that is the whole key and a uuid, as in all of Kong's tables with credentials.
pub(super) fn id_column(table: &BlueTable) -> Option<&str> {
    use crate::catalog::blue::ColumnKind::{Clustering, PartitionKey};
    let mut keys =
        table.columns.iter().filter(|column| matches!(column.kind, PartitionKey(_) | Clustering(_)));
    let first = keys.next().filter(|column| column.cql_type == CqlType::Native("uuid".to_owned()))?;
    keys.next().is_none().then_some(first.name.as_str())
}
