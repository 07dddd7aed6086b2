//! One scan of a table's stage that tells which checks have anything to find in it: mostly none has.
//!
//! Values are not compared for this but their 64-bit hashes, by sorting numbers: equal values have equal hashes, so where
//! no hash comes twice no value does. Where one does, the check itself looks.

use sqlx::PgConnection;

use super::check_sql::Place;
use crate::catalog::green::{GreenTable, Index};
use crate::green::sql::quote;
use crate::green::statement::query_scalar;

/// Rows with more bytes than this in one index may be too long for it (facts, 4.13): the limit is about 2700 bytes after
/// compression.
pub(super) const CANDIDATES: &str = "1600";

/// Types with a hash in which equal values are equal. Others are grouped by themselves.
pub(crate) const HASHED_TYPES: &[&str] =
    &["uuid", "text", "boolean", "smallint", "integer", "bigint", "timestamp with time zone", "date"];

/// Types whose values are too short to matter in an index.
pub(crate) const SHORT_TYPES: &[&str] = &[
    "uuid",
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "timestamp with time zone",
    "timestamp without time zone",
];

/// What the scan found.
pub(super) struct Glance<'t> {
    /// Unique indexes of which a value may come twice.
    pub repeated: Vec<&'t Index>,
    /// Indexes for which rows may be too long: the index, the length of its entry as an expression, how many.
    pub long: Vec<(&'t Index, String, u64)>,
}

impl<'t> Glance<'t> {
    /// Scans the stage for these unique indexes, and for the length of what all indexes of the table would hold.
    pub(super) async fn take(
        tx: &mut PgConnection,
        place: &Place,
        table: &'t GreenTable,
        unique: &[&'t Index],
        hashes_rows: bool,
    ) -> sqlx::Result<Glance<'t>> {
        let lengths = table.indexes.iter().filter(|index| !always_short(index, table));
        let lengths: Vec<(&Index, String)> = lengths.map(|index| (index, length(index, table))).collect();
        let by_hash = |index: &Index| hashes_rows && is_hashed(index, table);
        let repeats =
            unique.iter().map(|index| if by_hash(index) { hashes(index) } else { groups(place, index) });
        let long =
            lengths.iter().map(|(_, length)| format!("count(*) filter (where {length} > {CANDIDATES})"));
        let counts: Vec<String> = repeats.chain(long).collect();
        if counts.is_empty() {
            return Ok(Glance { repeated: Vec::new(), long: Vec::new() });
        }
        let sql =
            place.fill(include_str!("../../../sql/checks/prescan.sql"), &[("counts", &counts.join(", "))]);
        let counts: Vec<i64> = query_scalar(sql).fetch_one(tx).await?;
        let (repeats, long) = counts.split_at_checked(unique.len()).unwrap_or_default();
        let number = |count: &i64| u64::try_from(*count).unwrap_or(0);
        Ok(Glance {
            repeated: unique
                .iter()
                .zip(repeats)
                .filter(|(_, count)| **count > 0)
                .map(|(index, _)| *index)
                .collect(),
            long: (lengths.into_iter().zip(long))
                .filter(|(_, count)| **count > 0)
                .map(|((index, length), count)| (index, length, number(count)))
                .collect(),
        })
    }
}

/// The rows that an index compares at all: nulls differ from each other, and a partial index sees only its part.
pub(super) fn covered(index: &Index) -> String {
    let mut conditions: Vec<String> =
        index.predicate.iter().map(|predicate| format!("({predicate})")).collect();
    if index.nulls_distinct {
        conditions.extend(index.expressions.iter().map(|part| format!("({part}) is not null")));
    }
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
}

/// How many rows more there are than hashes.
fn hashes(index: &Index) -> String {
    let (parts, covered) = (index.expressions.join(", "), covered(index));
    format!(
        "count(*) filter (where {covered}) - count(distinct hash_record_extended(row({parts}), 0)) filter (where {covered})"
    )
}

/// How many values come more than once.
fn groups(place: &Place, index: &Index) -> String {
    let places = [("parts", index.expressions.join(", ")), ("covered", covered(index))];
    let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
    place.fill(include_str!("../../../sql/checks/groups.sql"), &places).0
}

fn is_hashed(index: &Index, table: &GreenTable) -> bool {
    index.columns.len() == index.expressions.len() && has_only(index, table, HASHED_TYPES)
}

/// Whether no row can be too long for this index: it holds nothing but plain columns of fixed length.
fn always_short(index: &Index, table: &GreenTable) -> bool {
    index.columns.len() == index.expressions.len() && has_only(index, table, SHORT_TYPES)
}

fn has_only(index: &Index, table: &GreenTable, types: &[&str]) -> bool {
    let named =
        |column: &str| table.column(column).is_some_and(|own| types.contains(&own.column_type.as_str()));
    index.columns.iter().chain(&index.included).all(|column| named(column))
}

/// Bytes of everything an index holds of one row, before compression.
fn length(index: &Index, table: &GreenTable) -> String {
    let included: Vec<String> = index.included.iter().map(|name| quote(name)).collect();
    let plain = index.columns.len() == index.expressions.len();
    let one = |(at, part): (usize, &String)| match index.columns.get(at) {
        // As long as its text, which need not be made to know that.
        Some(column) if plain && table.column(column).is_some_and(|own| own.column_type == "uuid") => {
            "36".to_owned()
        }
        _ => format!("coalesce(octet_length(({part})::text), 0)"),
    };
    index.expressions.iter().chain(&included).enumerate().map(one).collect::<Vec<_>>().join(" + ")
}
