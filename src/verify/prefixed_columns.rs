//! Which text columns carry `<workspace id>:` on blue, by line of Kong and table.
//!
//! The statement is data, taken from rows that Kong wrote and from Kong's own schemas. It shares nothing with the
//! mapping, which infers the same from green's constraints. Columns that it does not name belong to Enterprise or to
//! custom plugins: there blue's rows decide ([`prefix_census`](super::prefix_census)).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::{Error, Kind, Result};
use crate::mapping::schema_map::SchemaMap;

const DATA: &str = include_str!("prefixed_columns.json");

/// The entry with what every line of Enterprise has beside the tables of open-source Kong
/// (docs/kong-data-model.md, 8.3).
const ENTERPRISE: &str = "enterprise";

/// The statement for one line of Kong. The default knows no table.
#[derive(Debug, Clone, Default)]
pub struct PrefixedColumns {
    tables: BTreeMap<String, TextColumns>,
}

/// All text columns of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TextColumns {
    prefixed: Vec<String>,
    plain: Vec<String>,
}

type Lines = BTreeMap<String, BTreeMap<String, TextColumns>>;

impl PrefixedColumns {
    /// The statement for this line of open-source Kong, such as `3.3`; empty for a line that it does not cover.
    pub fn of_line(line: &str) -> Result<PrefixedColumns> {
        let tables = read()?.remove(line).unwrap_or_default();
        Ok(PrefixedColumns { tables })
    }

    /// The statement for the line of a schema map. Enterprise has the tables of the open-source line, with columns more,
    /// and tables of its own.
    pub(super) fn of_map(map: &SchemaMap, is_enterprise: bool) -> Result<PrefixedColumns> {
        let mut lines = read()?;
        let tables = map.line.iter().chain(&map.extends).find_map(|line| lines.remove(line));
        let mut statement = PrefixedColumns { tables: tables.unwrap_or_default() };
        if is_enterprise {
            statement.add(lines.remove(ENTERPRISE).unwrap_or_default());
        }
        Ok(statement)
    }

    fn add(&mut self, tables: BTreeMap<String, TextColumns>) {
        for (table, columns) in tables {
            let known = self.tables.entry(table).or_default();
            known.prefixed.extend(columns.prefixed);
            known.plain.extend(columns.plain);
        }
    }

    /// Whether Kong writes the workspace in front of this column's texts; `None` for a column that is not Kong's own.
    pub(super) fn is_prefixed(&self, table: &str, column: &str) -> Option<bool> {
        let columns = self.tables.get(table)?;
        let contains = |names: &[String]| names.iter().any(|name| name == column);
        match (contains(&columns.prefixed), contains(&columns.plain)) {
            (true, _) => Some(true),
            (false, true) => Some(false),
            (false, false) => None,
        }
    }
}

fn read() -> Result<Lines> {
    serde_json::from_str(DATA)
        .map_err(|error| Error::new(Kind::Io, "cannot read prefixed_columns.json").source(error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use serde_json::Value as Json;

    use super::*;

    /// Lines of which rows that Kong itself wrote are kept.
    const LINES_WITH_ROWS: &[&str] = &["2.8", "3.3"];

    fn fixtures() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
    }

    fn is_text(column_type: &Json) -> bool {
        column_type.as_str() == Some("text")
    }

    /// One table of Kong's schemas, where both databases have it.
    fn text_columns(table: &Json) -> Option<TextColumns> {
        if table["cassandra"]["exists"] != true || table["postgres"]["exists"] != true {
            return None;
        }
        let on_green = |name: &str| is_text(&table["postgres"]["columns"][name]["type"]);
        let on_blue = table["cassandra"]["columns"].as_object().expect("columns");
        let texts: BTreeSet<&String> = on_blue
            .iter()
            .filter(|(name, kind)| is_text(kind) && on_green(name))
            .map(|(name, _)| name)
            .collect();
        let unique_fields = table["unique_fields"].as_array().expect("unique fields");
        let prefixed: BTreeSet<&str> = unique_fields
            .iter()
            .filter(|field| field["prefixed"] == true)
            .filter_map(|field| field["name"].as_str())
            .collect();
        let (prefixed, plain) =
            texts.into_iter().cloned().partition(|name: &String| prefixed.contains(name.as_str()));
        Some(TextColumns { prefixed, plain })
    }

    #[test]
    fn the_statement_is_that_of_kongs_schemas() {
        let text = std::fs::read_to_string(fixtures().join("model.json")).expect("the model");
        let model: Json = serde_json::from_str(&text).expect("JSON");
        let mut derived = Lines::new();
        for (version, tables) in model["versions"].as_object().expect("versions") {
            let (line, _) = version.rsplit_once('.').expect("major.minor.patch");
            let tables = tables.as_object().expect("tables").iter();
            let tables = tables.filter_map(|(name, table)| Some((name.clone(), text_columns(table)?)));
            derived.insert(line.to_owned(), tables.collect());
        }
        let mut stated = read().expect("the data");
        assert!(stated.remove(ENTERPRISE).is_some());
        assert_eq!(stated, derived);
    }

    /// What the rows of one line show: every text column with its table, and whether it carries the row's workspace.
    fn witnessed(line: &str) -> BTreeMap<(String, String), BTreeSet<bool>> {
        let mut seen: BTreeMap<(String, String), BTreeSet<bool>> = BTreeMap::new();
        for entry in std::fs::read_dir(fixtures().join(line).join("blue")).expect("blue's rows") {
            let path = entry.expect("a file").path();
            let table = path.file_stem().and_then(|name| name.to_str()).expect("a table").to_owned();
            for row in std::fs::read_to_string(&path).expect("rows").lines() {
                let row: Json = serde_json::from_str(row).expect("a row");
                let workspace = row["row"]["ws_id"].as_str().map(|id| format!("{id}:"));
                for (column, value) in row["row"].as_object().expect("columns") {
                    let Some(text) = value.as_str() else { continue };
                    let has_prefix = workspace.as_ref().is_some_and(|own| text.starts_with(own));
                    seen.entry((table.clone(), column.clone())).or_default().insert(has_prefix);
                }
            }
        }
        seen
    }

    #[test]
    fn the_statement_is_that_of_the_rows_that_kong_wrote() {
        for line in LINES_WITH_ROWS {
            let statement = PrefixedColumns::of_line(line).expect("the data");
            let seen = witnessed(line);
            for ((table, column), prefixes) in &seen {
                if let Some(is_prefixed) = statement.is_prefixed(table, column) {
                    assert_eq!(prefixes, &BTreeSet::from([is_prefixed]), "{line}: {table}.{column}");
                } else {
                    assert!(!prefixes.contains(&true), "{line}: {table}.{column} is missing");
                }
            }
            for (table, columns) in &statement.tables {
                for column in &columns.prefixed {
                    let place = (table.clone(), column.clone());
                    assert!(seen.contains_key(&place), "{line}: no row shows {table}.{column}");
                }
            }
        }
    }

    #[test]
    fn enterprise_has_the_statement_of_the_line_that_it_extends() {
        let maps = SchemaMap::built_in().expect("maps");
        let enterprise = maps.iter().find(|map| map.is_enterprise()).expect("Enterprise");
        let statement = PrefixedColumns::of_map(enterprise, true).expect("the data");
        assert_eq!(statement.is_prefixed("consumers", "username"), Some(true));
        assert_eq!(statement.is_prefixed("services", "host"), Some(false));
        assert_eq!(statement.is_prefixed("consumers", "username_lower"), Some(true));
        assert_eq!(statement.is_prefixed("rbac_users", "name"), Some(true));
        assert_eq!(statement.is_prefixed("rbac_users", "user_token"), Some(false));
        assert_eq!(statement.is_prefixed("quota_limits", "name"), None);
    }
}
