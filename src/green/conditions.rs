//! Conditions over rows, as SQL. Aliases: `g` is a row of Kong's table on green, `s` a staged row, `l` a row of the
//! ledger, `d` a row of the deletions.
//!
//! Tables of our own that contain keys name the columns of a key `key_1`, `key_2` …

use super::sql::quote;
use crate::mapping::table_plan::TablePlan;

/// That two rows of tables with Kong's columns have the same key.
pub(super) fn same_key(key: &[String], alias: &str, other: &str) -> String {
    let pairs = key.iter().map(|name| format!("{alias}.{0} = {other}.{0}", quote(name)));
    all(pairs.collect())
}

/// That a row of a table of our own has the key of a row with Kong's columns.
pub(super) fn same_numbered_key(key: &[String], numbered: &str, other: &str) -> String {
    let pairs = key.iter().enumerate();
    all(pairs.map(|(at, name)| format!("{numbered}.key_{} = {other}.{}", at + 1, quote(name))).collect())
}

/// The columns of a key in tables of our own, each with this alias in front unless it is empty.
pub(super) fn numbered_key(key: &[String], alias: &str) -> Vec<String> {
    let dot = if alias.is_empty() { String::new() } else { format!("{alias}.") };
    (1..=key.len()).map(|at| format!("{dot}key_{at}")).collect()
}

/// The key of a row with Kong's columns, selected under the names that its columns have in tables of our own.
pub(super) fn as_numbered_key(key: &[String], alias: &str) -> String {
    let columns = key.iter().zip(numbered_key(key, ""));
    columns
        .map(|(name, number)| format!("{alias}.{} as {number}", quote(name)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// That the row `g` equals the row `s` in every column; two expiries are the same within two seconds
/// (docs/architecture.md, "Time to live").
pub(super) fn same_row(table: &TablePlan) -> String {
    let mut conditions = vec![same_key(&table.key, "g", "s")];
    for column in table.columns.iter().filter(|column| !table.key.contains(&column.name)) {
        let name = quote(&column.name);
        // json has no equality of its own.
        let is_json = column.green_type.starts_with("json") && !column.green_type.starts_with("jsonb");
        let cast = if is_json { "::text" } else { "" };
        let equal = format!("s.{name}{cast} is not distinct from g.{name}{cast}");
        if table.expiry.as_ref() == Some(&column.name) {
            conditions.push(format!("({equal} or abs(extract(epoch from s.{name} - g.{name})) <= 2)"));
        } else {
            conditions.push(equal);
        }
    }
    conditions.join(" and ")
}

/// That a row has not expired.
pub(super) fn alive(expiry: Option<&str>, alias: &str) -> String {
    expiry.map_or_else(
        || "true".to_owned(),
        |column| format!("({alias}.{0} is null or {alias}.{0} > now())", quote(column)),
    )
}

pub(super) fn any(conditions: &[String]) -> String {
    if conditions.is_empty() { "false".to_owned() } else { conditions.join(" or ") }
}

/// A table without a key has no two rows with the same one.
fn all(conditions: Vec<String>) -> String {
    if conditions.is_empty() { "false".to_owned() } else { conditions.join(" and ") }
}
