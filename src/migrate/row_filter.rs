//! Which rows of a table a run reads.

use std::collections::HashSet;
use std::sync::Arc;

use crate::mapping::digest::Digest128;

/// Rows up to which a table is always read whole.
const SMALL_TABLE: u64 = 2_000;

/// Rows are read one by one if they are fewer than one in this many; otherwise a scan of the table is faster.
const ONE_IN: u64 = 50;

#[derive(Debug, Default)]
pub enum RowFilter {
    #[default]
    All,
    Keys {
        keys: Arc<HashSet<Digest128>>,
        /// The tokens of their partitions on blue.
        tokens: HashSet<i64>,
        table_rows: u64,
    },
}

impl RowFilter {
    /// The tokens to read one by one, where that is faster than a scan of the table.
    pub(super) fn single_tokens(&self) -> Option<&HashSet<i64>> {
        match self {
            RowFilter::Keys { tokens, table_rows, .. }
                if *table_rows > SMALL_TABLE && tokens.len() as u64 * ONE_IN < *table_rows =>
            {
                Some(tokens)
            }
            _ => None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, RowFilter::Keys { keys, .. } if keys.is_empty())
    }
}
