//! Finds blue's rows by the value of a column. Kong's tables have secondary indexes for that. Where one is missing, as in
//! a restored keyspace or for a custom plugin, the table is read once for all checks and indexed here.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use tokio::sync::OnceCell;
use uuid::Uuid;

use super::secret::is_encrypted;
use super::store::WORKSPACE;
use crate::blue::scan::{Page, TableReader, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::catalog::blue::BlueTable;
use crate::cql::CqlType;
use crate::error::Result;

/// A hash of the value and the row's id, sorted: 24 bytes a row whatever the length of the values.
type Entries = Vec<(u64, Uuid)>;

type IndexedColumn = (String, String);

/// What was read of each column, once.
type ReadOnce<T> = Mutex<BTreeMap<IndexedColumn, Arc<OnceCell<T>>>>;

/// The columns that blue has indexes for, and indexes of others as far as they were needed.
#[derive(Debug, Default)]
pub(super) struct BlueIndexes {
    indexed: BTreeSet<IndexedColumn>,
    built: ReadOnce<Entries>,
    cipher_texts: ReadOnce<BTreeSet<Uuid>>,
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
        let cell = cell(&self.built, table, column);
        let entries = cell.get_or_try_init(|| self.build(blue, table, column, id)).await?;
        let hash = self.hasher.hash_one(value);
        let first = entries.partition_point(|(own, _)| *own < hash);
        let found = entries.iter().skip(first).take_while(|(own, _)| *own == hash);
        Ok(found.map(|(_, id)| *id).collect())
    }

    async fn build(&self, blue: &Blue, table: &BlueTable, column: &str, id: &str) -> Result<Entries> {
        tracing::debug!(table = table.name, column, "Blue has no index here; reading the table once.");
        let entry = |id: Uuid, value: &[u8]| Some((self.hasher.hash_one(value), id));
        let mut entries = read(blue, table, [id, column], &entry).await?;
        entries.sort_unstable();
        Ok(entries)
    }

    pub(super) async fn has_cipher_text(
        &self,
        blue: &Blue,
        table: &BlueTable,
        column: &str,
        workspace: Option<Uuid>,
    ) -> Result<bool> {
        let cell = cell(&self.cipher_texts, table, column);
        let found = cell
            .get_or_try_init(|| async {
                let encrypted = |value: &[u8]| std::str::from_utf8(value).is_ok_and(is_encrypted);
                let entry = |workspace: Uuid, value: &[u8]| encrypted(value).then_some(workspace);
                let found = read(blue, table, [WORKSPACE, column], &entry).await?;
                Ok::<_, crate::error::Error>(found.into_iter().collect::<BTreeSet<Uuid>>())
            })
            .await?;
        Ok(workspace.map_or(!found.is_empty(), |workspace| found.contains(&workspace)))
    }
}

fn cell<T>(read: &ReadOnce<T>, table: &BlueTable, column: &str) -> Arc<OnceCell<T>> {
    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
    read.entry((table.name.clone(), column.to_owned())).or_default().clone()
}

/// Reads an id and another column of a whole table, and collects what `entry` returns.
async fn read<T: Send>(
    blue: &Blue,
    table: &BlueTable,
    columns: [&str; 2],
    entry: &(impl Fn(Uuid, &[u8]) -> Option<T> + Sync),
) -> Result<Vec<T>> {
    let key: Vec<String> = table.partition_key().into_iter().map(str::to_owned).collect();
    let reader = &blue.reader(&table.name, &columns.map(quote).join(", "), &key).await?;
    let ranges = futures::stream::iter(blue.ranges(blue.parallel() * 4));
    let parts = ranges.map(|range| part(blue, reader, range, &table.name, entry));
    parts.buffer_unordered(blue.parallel()).try_concat().await
}

async fn part<T: Send>(
    blue: &Blue,
    reader: &TableReader,
    range: TokenRange,
    table: &str,
    entry: &(impl Fn(Uuid, &[u8]) -> Option<T> + Sync),
) -> Result<Vec<T>> {
    let mut entries = Vec::new();
    let mut next = Some((PagingState::start(), Page::first_rows()));
    while let Some((from, rows)) = next.take() {
        let page = blue.page(reader, range, from, rows).await?;
        page.for_each(|cells| {
            if let [Some(id), Some(value)] = cells {
                entries.extend(Uuid::from_slice(id).ok().and_then(|id| entry(id, value)));
            }
        })
        .map_err(|e| blue.explain(e, &format!("cannot read the table \"{table}\"")))?;
        next = page.next.clone().map(|from| (from, page.next_rows()));
    }
    Ok(entries)
}

/// The column that is the whole key and a uuid, as in all of Kong's tables with credentials.
pub(super) fn id_column(table: &BlueTable) -> Option<&str> {
    use crate::catalog::blue::ColumnKind::{Clustering, PartitionKey};
    let mut keys =
        table.columns.iter().filter(|column| matches!(column.kind, PartitionKey(_) | Clustering(_)));
    let first = keys.next().filter(|column| column.cql_type == CqlType::Native("uuid".to_owned()))?;
    keys.next().is_none().then_some(first.name.as_str())
}
