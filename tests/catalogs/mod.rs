//! The catalogs that real servers left in `tests/fixtures/catalog/`, as the program reads them from a server.

use std::path::PathBuf;

use kongferry::catalog::blue::{BlueCatalog, BlueColumn, BlueTable, ColumnKind};
use kongferry::catalog::green::{ForeignKey, GreenCatalog, GreenColumn, GreenTable, Index};
use kongferry::cql::CqlType;
use serde_json::Value;

pub fn json(path: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

fn list<T>(value: &Value, one: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(one).collect()
}

/// What blue says about its tables.
pub fn blue(line: &str) -> BlueCatalog {
    let mut catalog = BlueCatalog::default();
    for (name, table) in json(&format!("catalog/{line}/cassandra.json")).as_object().unwrap() {
        let mut columns = list(&table["columns"], |column| BlueColumn {
            name: text(&column["name"]),
            kind: match (column["kind"].as_str().unwrap(), column["position"].as_i64().unwrap()) {
                ("partition_key", position) => ColumnKind::PartitionKey(position as i32),
                ("clustering", position) => ColumnKind::Clustering(position as i32),
                ("static", _) => ColumnKind::Static,
                _ => ColumnKind::Regular,
            },
            cql_type: CqlType::parse(column["type"].as_str().unwrap()),
        });
        columns.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        catalog.tables.insert(name.clone(), BlueTable { name: name.clone(), columns, default_ttl: 0 });
    }
    catalog
}

/// What green says about its tables.
pub fn green(line: &str) -> GreenCatalog {
    let mut catalog = GreenCatalog::default();
    for (name, table) in json(&format!("catalog/{line}/postgres.json")).as_object().unwrap() {
        let unique = |columns: Vec<String>| Index {
            name: columns.join("_"),
            unique: true,
            primary: false,
            nulls_distinct: true,
            expressions: columns.clone(),
            columns,
            ..Index::default()
        };
        let green = GreenTable {
            name: name.clone(),
            columns: list(&table["columns"], |column| GreenColumn {
                name: text(&column["name"]),
                column_type: text(&column["type"]),
                element_oid: element_oid(column["type"].as_str().unwrap()),
                not_null: column["not_null"] == true,
                default: column["default"].as_str().map(str::to_owned),
            }),
            primary_key: texts(&table["primary_key"]),
            indexes: list(&table["uniques"], |columns| unique(texts(columns))),
            foreign_keys: list(&table["foreign_keys"], |key| ForeignKey {
                name: text(&key["name"]),
                columns: texts(&key["columns"]),
                parent: text(&key["ref_table"]),
                parent_columns: texts(&key["ref_columns"]),
                ..ForeignKey::default()
            }),
            ..GreenTable::default()
        };
        catalog.tables.insert(name.clone(), green);
    }
    catalog
}

fn element_oid(column_type: &str) -> u32 {
    match column_type {
        "text[]" => 25,
        "uuid[]" => 2950,
        "jsonb[]" => 3802,
        _ => 0,
    }
}
