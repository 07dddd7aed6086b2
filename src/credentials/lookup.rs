//! Finding blue's rows by what they hold. Kong's own tables have secondary indexes for that, and those are used. Where one
//! is missing – a restored keyspace, a custom plugin – the table is read once for all checks instead of once for each.

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

/// A hash of what a column holds, and the row's id: 24 bytes a row, sorted, however long the texts are.
type Entries = Vec<(u64, Uuid)>;

/// A table and one of its columns.
type Column = (String, String);

/// What was read of columns, each only once.
type Read<T> = Mutex<BTreeMap<Column, Arc<OnceCell<T>>>>;

/// Which columns blue can be asked by, and what was read of the others.
#[derive(Debug, Default)]
pub struct Lookups {
    indexed: BTreeSet<Column>,
    made: Read<Entries>,
    ciphers: Read<BTreeSet<Uuid>>,
    hasher: RandomState,
}

impl Lookups {
    /// Reads which indexes blue has.
    pub async fn read(blue: &Blue) -> Result<Lookups> {
        let cql = "SELECT table_name, options FROM system_schema.indexes WHERE keyspace_name = ?";
        let what = "cannot read which indexes blue has";
        let rows: Vec<(String, std::collections::HashMap<String, String>)> =
            blue.rows(cql, (blue.keyspace(),), what).await?;
        let target = |(table, options): (String, std::collections::HashMap<String, String>)| {
            let target = options.get("target")?;
            Some((table, target.trim_matches('"').to_owned()))
        };
        Ok(Lookups { indexed: rows.into_iter().filter_map(target).collect(), ..Lookups::default() })
    }

    /// Whether blue finds rows by this column itself, or no other way is known.
    pub fn blue_finds(&self, table: &BlueTable, column: &str) -> bool {
        let key = table.partition_key();
        let has_index = self.indexed.contains(&(table.name.clone(), column.to_owned()));
        has_index || key == [column] || id_of(table).is_none()
    }

    /// Ids of the rows that may hold this value in a column; a few may hold another one.
    pub async fn ids(&self, blue: &Blue, table: &BlueTable, column: &str, value: &[u8]) -> Result<Vec<Uuid>> {
        let Some(id) = id_of(table) else { return Ok(Vec::new()) };
        let cell = cell(&self.made, table, column);
        let entries = cell.get_or_try_init(|| self.make(blue, table, column, id)).await?;
        let wanted = self.hasher.hash_one(value);
        let first = entries.partition_point(|(hash, _)| *hash < wanted);
        let found = entries.iter().skip(first).take_while(|(hash, _)| *hash == wanted);
        Ok(found.map(|(_, id)| *id).collect())
    }

    async fn make(&self, blue: &Blue, table: &BlueTable, column: &str, id: &str) -> Result<Entries> {
        tracing::debug!(table = table.name, column, "Blue has no index here; reading the table once.");
        let entry = |id: Uuid, value: &[u8]| Some((self.hasher.hash_one(value), id));
        let mut entries = read(blue, table, [id, column], &entry).await?;
        entries.sort_unstable();
        Ok(entries)
    }

    /// Whether a column holds cipher text of the keyring, in this workspace or in any.
    pub async fn holds_cipher_text(
        &self,
        blue: &Blue,
        table: &BlueTable,
        column: &str,
        workspace: Option<Uuid>,
    ) -> Result<bool> {
        let cell = cell(&self.ciphers, table, column);
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

fn cell<T>(read: &Read<T>, table: &BlueTable, column: &str) -> Arc<OnceCell<T>> {
    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
    read.entry((table.name.clone(), column.to_owned())).or_default().clone()
}

/// Reads two columns of a whole table, a uuid and another one, and keeps of each row what `entry` makes of it.
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

/// The column that is the whole key and a uuid, as all of Kong's tables with credentials have it.
pub fn id_of(table: &BlueTable) -> Option<&str> {
    use crate::catalog::blue::ColumnKind::{Clustering, PartitionKey};
    let mut keys =
        table.columns.iter().filter(|column| matches!(column.kind, PartitionKey(_) | Clustering(_)));
    let only = keys.next().filter(|column| column.cql_type == CqlType::Native("uuid".to_owned()))?;
    keys.next().is_none().then_some(only.name.as_str())
}
