//! One scan of a table's stage that decides which checks can find anything in it; mostly none can.
//!
//! Instead of values their 64-bit hashes are compared, by sorting numbers: equal values have equal hashes, so where no
//! hash is repeated no value is. Where one is, the check itself runs.

use sqlx::PgConnection;

use super::check_sql::CheckSql;
use crate::catalog::green::{GreenTable, Index};
use crate::green::sql::quote;
use crate::green::statement::query_scalar;

/// Rows with more bytes than this in one index may be too long for it (docs/kong-data-model.md, 4.13): the limit is about
/// 2700 bytes after compression.
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

pub(super) struct Prescan<'t> {
    /// Unique indexes of which a value may be repeated.
    pub repeated: Vec<&'t Index>,
    /// Indexes for which rows may be too long: the index, the expression for the length of its entry, how many rows.
    pub long: Vec<(&'t Index, String, u64)>,
}

impl<'t> Prescan<'t> {
    /// Scans the stage for these unique indexes, and for the length of the entries of all indexes of the table.
    pub(super) async fn run(
        tx: &mut PgConnection,
        check: &CheckSql,
        table: &'t GreenTable,
        unique: &[&'t Index],
        hashes_rows: bool,
    ) -> sqlx::Result<Prescan<'t>> {
        let lengths = table.indexes.iter().filter(|index| !always_short(index, table));
        let lengths: Vec<(&Index, String)> = lengths.map(|index| (index, length(index, table))).collect();
        let by_hash = |index: &Index| hashes_rows && is_hashed(index, table);
        let repeats = unique
            .iter()
            .map(|index| if by_hash(index) { hashes(index) } else { duplicate_groups(check, index) });
        let long =
            lengths.iter().map(|(_, length)| format!("count(*) filter (where {length} > {CANDIDATES})"));
        let counts: Vec<String> = repeats.chain(long).collect();
        if counts.is_empty() {
            return Ok(Prescan { repeated: Vec::new(), long: Vec::new() });
        }
        let sql =
            check.fill(include_str!("../../../sql/checks/prescan.sql"), &[("counts", &counts.join(", "))]);
        let counts: Vec<i64> = query_scalar(sql).fetch_one(tx).await?;
        let (repeats, long) = counts.split_at_checked(unique.len()).unwrap_or_default();
        let number = |count: &i64| u64::try_from(*count).unwrap_or(0);
        Ok(Prescan {
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

/// The rows that an index compares: nulls differ from each other, and a partial index has only its rows.
pub(super) fn covered(index: &Index) -> String {
    let mut conditions: Vec<String> =
        index.predicate.iter().map(|predicate| format!("({predicate})")).collect();
    if index.nulls_distinct {
        conditions.extend(index.expressions.iter().map(|part| format!("({part}) is not null")));
    }
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
}

/// The number of rows minus the number of different hashes.
fn hashes(index: &Index) -> String {
    let (parts, covered) = (index.expressions.join(", "), covered(index));
    format!(
        "count(*) filter (where {covered}) - count(distinct hash_record_extended(row({parts}), 0)) filter (where {covered})"
    )
}

/// The number of values that occur more than once.
fn duplicate_groups(check: &CheckSql, index: &Index) -> String {
    let places = [("parts", index.expressions.join(", ")), ("covered", covered(index))];
    let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
    check.fill(include_str!("../../../sql/checks/count_duplicates.sql"), &places).0
}

fn is_hashed(index: &Index, table: &GreenTable) -> bool {
    index.columns.len() == index.expressions.len() && has_only(index, table, HASHED_TYPES)
}

/// Whether no row can be too long for this index: it has only plain columns of fixed length.
fn always_short(index: &Index, table: &GreenTable) -> bool {
    index.columns.len() == index.expressions.len() && has_only(index, table, SHORT_TYPES)
}

fn has_only(index: &Index, table: &GreenTable, types: &[&str]) -> bool {
    let named = |column: &str| {
        table.column(column).is_some_and(|column| types.contains(&column.column_type.as_str()))
    };
    index.columns.iter().chain(&index.included).all(|column| named(column))
}

/// The size of a row's index entry in bytes, before compression.
fn length(index: &Index, table: &GreenTable) -> String {
    let included: Vec<String> = index.included.iter().map(|name| quote(name)).collect();
    let has_plain_columns = index.columns.len() == index.expressions.len();
    let bytes = |(at, part): (usize, &String)| match index.columns.get(at) {
        // The length of its text, which need not be produced.
        Some(column)
            if has_plain_columns
                && table.column(column).is_some_and(|column| column.column_type == "uuid") =>
        {
            "36".to_owned()
        }
        _ => format!("coalesce(octet_length(({part})::text), 0)"),
    };
    index.expressions.iter().chain(&included).enumerate().map(bytes).collect::<Vec<_>>().join(" + ")
}
