//! A table whose rows are all in one partition, cut into slices of that partition. It has one token, which cannot be cut,
//! and one page after another would keep only one of blue's cores busy.
//!
//! A slice is bounded by values of the first clustering column. Whatever order Cassandra has for its type, every row is in
//! a slice: the first is everything up to the first bound, each other one what comes after one bound and up to the next,
//! the last what comes after the last bound. The order only decides how evenly the rows fall.

use std::sync::Arc;

use scylla::value::CqlValue;
use uuid::Uuid;

use super::scan::{TableReader, TokenRange};
use super::session::{Blue, quote};
use super::token;
use crate::catalog::blue::OnePartition;
use crate::error::Result;

/// Versions of ids that rows of Kong have: those it makes itself are random (4), those of declarative tools are made from
/// names (5). Cassandra orders by the version first.
const VERSIONS: [u8; 2] = [4, 5];

/// Where an id has its version.
const VERSION_BIT: u32 = 76;

/// How often the ids of each version are halved: into eight slices.
const HALVINGS: u32 = 3;

impl Blue {
    /// Cuts such a table: what `whole`, its reader by token range, is asked for around the partition, and slices of the
    /// partition itself.
    pub async fn slices(
        &self,
        table: &str,
        select: &str,
        whole: &Arc<TableReader>,
        partition: &OnePartition,
    ) -> Result<Vec<(Arc<TableReader>, TokenRange)>> {
        let token = token::of_single_column(partition.value.as_bytes());
        let mut parts: Vec<_> = around(token).into_iter().map(|range| (whole.clone(), range)).collect();
        let (key, column) = (quote(&partition.column), quote(&partition.clustering));
        let bounds = bounds();
        let mut after = None;
        for up_to in bounds.iter().copied().map(Some).chain([None]) {
            let from = after.map_or_else(String::new, |_| format!(" AND {column} > ?"));
            let to = up_to.map_or_else(String::new, |_| format!(" AND {column} <= ?"));
            let cql = format!("SELECT {select} FROM {} WHERE {key} = ?{from}{to}", self.table(table));
            let mut values = vec![CqlValue::Text(partition.value.clone())];
            values.extend(after.into_iter().chain(up_to).map(CqlValue::Uuid));
            parts.push((Arc::new(self.prepare(table, cql).await?.with(values)), TokenRange::WHOLE));
            after = up_to;
        }
        Ok(parts)
    }
}

/// The ring without this token. A range that ends where it begins would be the whole ring.
fn around(token: i64) -> Vec<TokenRange> {
    let before = TokenRange { after: i64::MIN, up_to: token.saturating_sub(1) };
    let behind = TokenRange { after: token, up_to: i64::MAX };
    [before, behind].into_iter().filter(|range| range.after < range.up_to).collect()
}

/// Ids that cut those of each version evenly, the last one of each included, in Cassandra's order.
fn bounds() -> Vec<Uuid> {
    let bounds_of = |version: u8| {
        let version = u128::from(version) << VERSION_BIT;
        let last = !(0xf_u128 << VERSION_BIT);
        let even = (1..1_u128 << HALVINGS).map(|nth| nth << (u128::BITS - HALVINGS));
        even.chain([last]).map(move |bound| Uuid::from_u128(bound | version))
    };
    VERSIONS.into_iter().flat_map(bounds_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_cut_evenly() {
        let bounds = bounds();
        assert_eq!(bounds.len(), VERSIONS.len() << HALVINGS);
        let in_order = |id: &Uuid| (id.get_version_num(), *id);
        assert!(bounds.is_sorted_by_key(in_order));
        assert_eq!(bounds[0].to_string(), "20000000-0000-4000-0000-000000000000");
        assert_eq!(bounds[7].to_string(), "ffffffff-ffff-4fff-ffff-ffffffffffff");
    }

    #[test]
    fn the_ring_around_a_token_never_closes_upon_itself() {
        let range = |after, up_to| TokenRange { after, up_to };
        assert_eq!(around(0), [range(i64::MIN, -1), range(0, i64::MAX)]);
        assert_eq!(around(i64::MAX), [range(i64::MIN, i64::MAX - 1)]);
        assert_eq!(around(i64::MIN + 1), [range(i64::MIN + 1, i64::MAX)]);
    }
}
