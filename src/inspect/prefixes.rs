//! Decides from blue's rows whether a unique text column that no schema map knows has the workspace's id as a prefix.
//!
//! For open-source Kong's tables the prefix was observed. For tables of Enterprise and of custom plugins green's
//! constraints only suggest it, and removing characters that belong to a value would be silent damage. So the rows are
//! counted before any is converted. Where most have the prefix it is removed, and a value without one is kept; where most
//! have none, one that has it is rejected.

use futures::{StreamExt, TryStreamExt};
use scylla::response::PagingState;
use uuid::Uuid;

use crate::blue::scan::{Page, TokenRange};
use crate::blue::session::{Blue, quote};
use crate::error::Result;
use crate::mapping::prefix::{self, PrefixPolicy};
use crate::mapping::table_plan::{ColumnSource, KeyspacePlan, TablePlan};

/// What was counted of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixCount {
    pub table: String,
    pub column: String,
    /// Rows that carry their own workspace in front.
    pub with: u64,
    /// Rows that do not. Cipher text counts for neither: what is in front of it cannot be seen.
    pub without: u64,
}

impl PrefixCount {
    /// What most of its rows do.
    fn prefix_policy(&self) -> PrefixPolicy {
        if self.with == 0 && self.without > 0 {
            PrefixPolicy::Plain
        } else if self.with >= self.without {
            PrefixPolicy::Prefixed
        } else {
            PrefixPolicy::Plain
        }
    }

    /// Rows that do otherwise than the others.
    pub fn odd(&self) -> u64 {
        self.with.min(self.without)
    }
}

/// Counts every such column of blue and enters into the plan what its rows do.
pub async fn count(blue: &Blue, plan: &mut KeyspacePlan) -> Result<Vec<PrefixCount>> {
    let open: Vec<(TablePlan, Vec<(usize, usize)>)> = plan
        .moved
        .iter()
        .map(|table| (table.clone(), open_columns(table)))
        .filter(|(_, open)| !open.is_empty())
        .collect();
    let counting = open.iter().map(|(table, columns)| count_table(blue, table, columns));
    let counted: Vec<Vec<PrefixCount>> =
        futures::stream::iter(counting).buffer_unordered(4).try_collect().await?;
    let counted: Vec<PrefixCount> = counted.into_iter().flatten().collect();
    for table in &mut plan.moved {
        for column in &mut table.columns {
            let found = counted.iter().find(|one| one.table == table.table && one.column == column.name);
            if let (Some(found), ColumnSource::Cell { prefix_policy, .. }) = (found, &mut column.source) {
                *prefix_policy = found.prefix_policy();
            }
        }
    }
    Ok(counted)
}

/// Columns whose prefix_policy is open: their places among the columns and among the cells.
fn open_columns(table: &TablePlan) -> Vec<(usize, usize)> {
    let columns = table.columns.iter().enumerate();
    columns
        .filter_map(|(at, column)| match &column.source {
            ColumnSource::Cell {
                cell, prefixed: true, prefix_policy: PrefixPolicy::Undetermined, ..
            } => Some((at, *cell)),
            _ => None,
        })
        .collect()
}

async fn count_table(blue: &Blue, table: &TablePlan, columns: &[(usize, usize)]) -> Result<Vec<PrefixCount>> {
    let name = |cell: usize| table.cell_name(cell).unwrap_or_default().to_owned();
    let mut counted: Vec<PrefixCount> = columns
        .iter()
        .map(|(_, cell)| PrefixCount { table: table.table.clone(), column: name(*cell), with: 0, without: 0 })
        .collect();
    let Some(workspace) = table.workspace else { return Ok(counted) };
    let cells: Vec<String> = std::iter::once(workspace)
        .chain(columns.iter().map(|(_, cell)| *cell))
        .map(|cell| quote(&name(cell)))
        .collect();
    let reader = blue.reader(&table.table, &cells.join(", "), &table.partition_key).await?;
    let mut next = Some((PagingState::start(), Page::first_rows()));
    while let Some((from, rows)) = next.take() {
        let page = blue.page(&reader, TokenRange::WHOLE, from, rows).await?;
        page.for_each(|cells| {
            let own = cells.first().copied().flatten().and_then(|bytes| Uuid::from_slice(bytes).ok());
            let (Some(own), Some(values)) = (own, cells.get(1..)) else { return };
            for (value, count) in values.iter().zip(&mut counted) {
                match value.map(|value| prefix::has_prefix(value, own)) {
                    Some(Some(true)) => count.with += 1,
                    Some(Some(false)) => count.without += 1,
                    Some(None) | None => {}
                }
            }
        })
        .map_err(|e| blue.explain(e, &format!("cannot read the table \"{}\"", table.table)))?;
        next = page.next.clone().map(|from| (from, page.next_rows()));
    }
    Ok(counted)
}
