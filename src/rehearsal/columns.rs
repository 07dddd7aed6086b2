//! How `plan` describes the conversion of every column.

use serde::Serialize;

use crate::mapping::prefix::PrefixPolicy;
use crate::mapping::table_plan::{
    Cell, ColumnPlan, ColumnSource, ExpiryChoice, KeyspacePlan, Substitute, TablePlan,
};

/// How one table's columns are converted.
#[derive(Debug, Clone, Serialize)]
pub struct TableColumns {
    pub table: String,
    /// Its columns: green's in their order, then blue's that are left behind.
    pub columns: Vec<ColumnRule>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ColumnRule {
    pub column: String,
    /// Its type on blue; a dash where blue has none.
    pub blue: String,
    /// The rule in a few words.
    pub rule: String,
    /// Its type on green; a dash where green has none.
    pub green: String,
}

/// How every column of every moved table is converted.
pub(super) fn columns(plan: &KeyspacePlan) -> Vec<TableColumns> {
    plan.moved
        .iter()
        .map(|table| TableColumns { table: table.table.clone(), columns: rules(table) })
        .collect()
}

fn rules(table: &TablePlan) -> Vec<ColumnRule> {
    let on_green = table.columns.iter().map(|column| ColumnRule {
        column: column.name.clone(),
        blue: source_type(table, column),
        rule: describe(table, column),
        green: column.green_type.clone(),
    });
    let dropped = |name: &str, rule: String| ColumnRule {
        column: name.to_owned(),
        blue: blue_type(table, name),
        rule,
        green: "–".to_owned(),
    };
    let by_rule = table.dropped.iter().map(|(name, reason)| dropped(name, format!("left behind: {reason}")));
    let partition = table.partition.iter().filter_map(|(cell, value)| {
        Some(dropped(table.cell_name(*cell)?, format!("left behind: only \"{value}\" is read by Kong")))
    });
    let unknown = table.unknown.iter().filter_map(|&cell| {
        Some(dropped(
            table.cell_name(cell)?,
            "must be null in every row: green has no such column".to_owned(),
        ))
    });
    on_green.chain(partition).chain(by_rule).chain(unknown).collect()
}

fn blue_type(table: &TablePlan, name: &str) -> String {
    let found = table.cells.iter().find_map(|cell| match cell {
        Cell::Value(column, cql_type) if column == name => Some(cql_type.to_string()),
        _ => None,
    });
    found.unwrap_or_else(|| "–".to_owned())
}

fn source_type(table: &TablePlan, column: &ColumnPlan) -> String {
    match &column.source {
        ColumnSource::Null => "–".to_owned(),
        ColumnSource::CellExpiry { .. } => "TTL of cells".to_owned(),
        ColumnSource::WindowExpiry { .. }
        | ColumnSource::Cell { .. }
        | ColumnSource::CacheKey { .. }
        | ColumnSource::WhenNamed { .. } => blue_type(table, &column.name),
    }
}

fn describe(table: &TablePlan, column: &ColumnPlan) -> String {
    match &column.source {
        ColumnSource::Null => "NULL".to_owned(),
        ColumnSource::CellExpiry { choice, .. } => match choice {
            ExpiryChoice::Smallest => "read time + smallest needed TTL".to_owned(),
            ExpiryChoice::Largest => "read time + largest TTL of the row".to_owned(),
        },
        ColumnSource::WhenNamed { table, value, .. } => {
            format!("\"{value}\" in the row that {table} names")
        }
        ColumnSource::WindowExpiry { start, .. } => {
            format!("{} + seconds of the period", table.cell_name(*start).unwrap_or_default())
        }
        ColumnSource::CacheKey { .. } => "rebuilt from its parts".to_owned(),
        ColumnSource::Cell { prefixed: true, prefix_policy: PrefixPolicy::Plain, .. } => {
            "same bytes: its rows carry no workspace".to_owned()
        }
        ColumnSource::Cell { prefixed: true, .. } => "without the row's \"<ws_id>:\"".to_owned(),
        ColumnSource::Cell { conversion, when_null, .. } => match when_null {
            None => conversion.describe().to_owned(),
            Some(Substitute::Boolean(value)) => format!("{}; null becomes {value}", conversion.describe()),
            Some(Substitute::Integer(bytes)) => {
                let is_zero = bytes.iter().all(|byte| *byte == 0);
                let value = if is_zero { "0" } else { "the number of the schema map" };
                format!("{}; null becomes {value}", conversion.describe())
            }
            Some(Substitute::CertificateDigest(_)) => {
                format!("{}; null is computed from the certificate", conversion.describe())
            }
        },
    }
}
