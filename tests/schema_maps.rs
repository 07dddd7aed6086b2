//! The schema maps, together with what the program infers from the catalogs, say what was measured about Kong's data.
//!
//! `tests/fixtures/model.json` holds the facts and `tests/fixtures/catalog/` what stood on real servers. The rules of
//! inference are stated here a second time, on purpose: this test must not believe the planner.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use kongferry::mapping::schema_map::{
    CopyPolicy, KeyPart, Prefix, Required, SchemaMap, TableRules, WhenNull, Writer,
};
use serde_json::Value;

/// Line of Kong versions → the release whose facts stand in `model.json`.
const LINES: [(&str, &str); 5] =
    [("2.8", "2.8.5"), ("3.0", "3.0.2"), ("3.1", "3.1.1"), ("3.2", "3.2.2"), ("3.3", "3.3.1")];

/// Types on blue and green that need no entry in a map, as far as Kong's own tables have them.
const INFERRED_PAIRS: [(&str, &str); 13] = [
    ("uuid", "uuid"),
    ("text", "text"),
    ("text", "jsonb"),
    ("timestamp", "timestamp with time zone"),
    ("int", "bigint"),
    ("int", "integer"),
    ("int", "smallint"),
    ("boolean", "boolean"),
    ("counter", "integer"),
    ("set<text>", "text[]"),
    ("set<uuid>", "uuid[]"),
    ("list<text>", "text[]"),
    ("set<text>", "jsonb[]"),
];
const HEADERS_PAIR: (&str, &str) = ("map<text, frozen<set<text>>>", "jsonb");

struct Line {
    name: &'static str,
    map: SchemaMap,
    model: Value,
    blue: Value,
    green: Value,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn json(path: impl AsRef<Path>) -> Value {
    let path = root().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn lines() -> Vec<Line> {
    let model = json("tests/fixtures/model.json");
    LINES
        .iter()
        .zip(SchemaMap::built_in().unwrap())
        .map(|((name, release), map)| Line {
            name,
            map,
            model: model["versions"][release].clone(),
            blue: json(format!("tests/fixtures/catalog/{name}/cassandra.json")),
            green: json(format!("tests/fixtures/catalog/{name}/postgres.json")),
        })
        .collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Name → type of the columns of a table, empty where the table is missing.
fn types(catalog: &Value, table: &str) -> BTreeMap<String, String> {
    let columns = catalog[table]["columns"].as_array().cloned().unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    columns.iter().map(|c| (text(&c["name"]), text(&c["type"]))).collect()
}

impl Line {
    fn rules(&self, table: &str) -> TableRules {
        self.map.tables.get(table).cloned().unwrap_or_default()
    }

    fn workspace_column(&self) -> &str {
        self.map.names.workspace_column.as_deref().unwrap()
    }

    fn expiry_column(&self) -> &str {
        self.map.names.expiry_column.as_deref().unwrap()
    }

    fn cache_key_column(&self) -> &str {
        self.map.names.cache_key_column.as_deref().unwrap()
    }

    fn tables(&self) -> Vec<&str> {
        keys(&self.model)
    }

    fn kind(&self, table: &str) -> &str {
        self.model[table]["kind"].as_str().unwrap()
    }

    fn has_rule(&self, table: &str, start: &str) -> bool {
        strings(&self.model[table]["rules"]).iter().any(|r| r.starts_with(start))
    }

    /// Tables on both sides whose rows are moved, at least on request.
    fn moved(&self) -> Vec<&str> {
        let both = |t: &&str| self.blue[t].is_object() && self.green[t].is_object();
        self.tables()
            .into_iter()
            .filter(both)
            .filter(|t| self.rules(t).copy != Some(CopyPolicy::Never))
            .collect()
    }

    fn not_null(&self, table: &str) -> BTreeSet<String> {
        let columns = self.green[table]["columns"].as_array().unwrap();
        let required = columns.iter().filter(|c| c["not_null"] == true);
        required.map(|c| c["name"].as_str().unwrap().to_owned()).collect()
    }

    /// Whether green's constraints alone say that a column carries the workspace in front.
    fn inferred_prefix(&self, table: &str, column: &str) -> bool {
        let text = types(&self.green, table).get(column).is_some_and(|t| t == "text");
        let uniques = self.green[table]["uniques"].as_array().cloned().unwrap_or_default();
        let with_workspace = uniques
            .iter()
            .map(|u| strings(u).into_iter().collect())
            .any(|u: BTreeSet<&str>| u == BTreeSet::from([column, self.workspace_column()]));
        text && with_workspace && column != self.cache_key_column()
    }

    /// Whether the program takes a column for prefixed.
    fn prefixed(&self, table: &str, column: &str) -> bool {
        match self.rules(table).columns.get(column).and_then(|c| c.prefix) {
            Some(prefix) => prefix == Prefix::Workspace,
            None => self.inferred_prefix(table, column),
        }
    }

    /// Whether green's expiry column has no counterpart on blue.
    fn inferred_expiry(&self, table: &str) -> bool {
        let has = |catalog| types(catalog, table).contains_key(self.expiry_column());
        has(&self.green) && !has(&self.blue)
    }
}

/// The required columns of a map in the notation of the model: `a|b` where one is enough.
fn required(rules: &TableRules) -> BTreeSet<String> {
    let name = |r: &Required| match r {
        Required::Column(column) => column.clone(),
        Required::OneOf(columns) => columns.join("|"),
    };
    rules.required.iter().flatten().map(name).collect()
}

/// A recipe in the notation of the model.
fn recipe(parts: &[KeyPart]) -> String {
    let part = |p: &KeyPart| match p {
        KeyPart::Text(text) => text.clone(),
        KeyPart::Column(column) => format!("<{column}>"),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(":")
}

#[test]
fn every_map_and_the_example_follow_the_json_schema() {
    let validator = jsonschema::validator_for(&json("schema-maps/schema-map.schema.json")).unwrap();
    let check = |value: &Value, origin: &str| {
        let errors: Vec<_> =
            validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path)).collect();
        assert!(errors.is_empty(), "{origin}: {errors:#?}");
        SchemaMap::parse(&value.to_string(), origin).unwrap();
    };
    for (line, _) in LINES {
        for name in [line.to_owned(), format!("enterprise-{line}")] {
            check(&json(format!("schema-maps/kong-{name}.json")), &name);
        }
    }
    let readme = std::fs::read_to_string(root().join("schema-maps/README.md")).unwrap();
    let example = readme.split("```json").nth(1).and_then(|t| t.split("```").next()).unwrap();
    check(&serde_json::from_str(example).unwrap(), "the example of schema-maps/README.md");
}

/// A map as it is serialised, without what is absent and without how it came about.
fn resolved(map: &SchemaMap) -> Value {
    fn compact(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|name, _| !matches!(name.as_str(), "replace" | "extends" | "$schema"));
                members.values_mut().for_each(compact);
                members.retain(|name, value| {
                    let is_empty = value.as_object().is_some_and(|members| members.is_empty())
                        || value.as_array().is_some_and(Vec::is_empty);
                    !(value.is_null() || is_empty || name == "observed" && *value == false)
                });
            }
            Value::Array(elements) => elements.iter_mut().for_each(compact),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(map).unwrap();
    compact(&mut value);
    value
}

/// `resolved.json` was made of maps that each stated every rule of their line, and for Enterprise by another program.
#[test]
fn a_map_that_extends_another_is_the_whole_map_of_its_line() {
    let expected = json("tests/fixtures/schema-maps/resolved.json");
    let maps = SchemaMap::built_in().unwrap();
    assert_eq!(maps.len(), expected.as_object().unwrap().len());
    for (map, (name, expected)) in maps.iter().zip(expected.as_object().unwrap()) {
        assert_eq!(resolved(map), *expected, "{name}");
    }
}

#[test]
fn rules_can_be_replaced_instead_of_merged() {
    let rules = |over: &str| {
        let mut map = SchemaMap::parse(
            r#"{"format": 1, "tables": {
                "t": {"required": ["a"], "columns": {"a": {"prefix": "never", "json": "any"}}},
                "p*": {"writer": "traffic"}}}"#,
            "base",
        )
        .unwrap();
        map.overlay(SchemaMap::parse(over, "over").unwrap());
        (map.rules("t"), map.rules("pt"))
    };
    let (merged, _) = rules(r#"{"format": 1, "tables": {"t": {"columns": {"a": {"json": "object"}}}}}"#);
    assert!(merged.required.is_some() && merged.columns["a"].prefix.is_some());
    let (column, _) =
        rules(r#"{"format": 1, "tables": {"t": {"columns": {"a": {"replace": true, "json": "object"}}}}}"#);
    assert!(column.required.is_some() && column.columns["a"].prefix.is_none());
    let (table, of_pattern) = rules(
        r#"{"format": 1, "tables": {"t": {"replace": true}, "pt": {"replace": true, "required": ["a"]}}}"#,
    );
    assert!(table.required.is_none() && table.columns.is_empty());
    assert!(of_pattern.writer.is_none() && of_pattern.required.is_some());
}

#[test]
fn the_fingerprint_is_of_what_a_map_says() {
    let maps = SchemaMap::built_in().unwrap();
    let fingerprints: BTreeSet<String> = maps.iter().map(SchemaMap::fingerprint).collect();
    assert_eq!(fingerprints.len(), maps.len());
    assert_eq!(maps, SchemaMap::built_in().unwrap());
    let mut changed = maps[0].clone();
    changed.tables.get_mut("routes").unwrap().required = None;
    assert_ne!(changed, maps[0]);
    assert_ne!(changed.fingerprint(), maps[0].fingerprint());
}

#[test]
fn the_json_schema_refuses_what_the_program_refuses() {
    let validator = jsonschema::validator_for(&json("schema-maps/schema-map.schema.json")).unwrap();
    let wrong = [
        r#"{}"#,
        r#"{"format": 2}"#,
        r#"{"format": 1, "extends": "3.1"}"#,
        r#"{"format": 1, "folded": {"core": "000_base"}}"#,
        r#"{"format": 1, "table": {}}"#,
        r#"{"format": 1, "tables": {"t": {"copies": "never"}}}"#,
        r#"{"format": 1, "tables": {"t": {"copy": "sometimes"}}}"#,
        r#"{"format": 1, "tables": {"t": {"writer": "me"}}}"#,
        r#"{"format": 1, "tables": {"t": {"replace": "columns"}}}"#,
        r#"{"format": 1, "tables": {"t": {"observed": true}}}"#,
        r#"{"format": 1, "tables": {"t": {"partition": {"column": "p"}}}}"#,
        r#"{"format": 1, "tables": {"t": {"columns": {"c": {"prefix": true}}}}}"#,
        r#"{"format": 1, "tables": {"t": {"columns": {"c": {"when_null": {"text": "x"}}}}}}"#,
        r#"{"format": 1, "tables": {"t": {"columns": {"c": {"when_null": {"integer": 2147483648}}}}}}"#,
        r#"{"format": 1, "bootstrap": [{"table": "t", "column": "c", "value": "v", "if_missing": "maybe"}]}"#,
        r#"{"format": 1, "tables": {"t": {"columns": {"c": {"cache_key": [{"text": "a", "column": "b"}, {"text": ""}]}}}}}"#,
    ];
    for text in wrong {
        assert!(!validator.is_valid(&serde_json::from_str(text).unwrap()), "the schema accepts {text}");
        assert!(SchemaMap::parse(text, "test").is_err(), "the program accepts {text}");
    }
}

#[test]
fn a_table_that_is_not_moved_says_why() {
    for line in lines() {
        for (table, rules) in &line.map.tables {
            let moved = rules.copy.is_none();
            assert_eq!(rules.reason.is_none(), moved, "{} {table}", line.name);
            assert!(rules.reason.as_ref().is_none_or(|r| r.ends_with('.')), "{} {table}", line.name);
        }
    }
}

#[test]
fn the_map_says_only_what_the_catalogs_do_not() {
    for line in lines() {
        for (table, rules) in &line.map.tables {
            let here = format!("{} {table}", line.name);
            assert_ne!(rules.writer, Some(Writer::Admin), "{here}: the default");
            assert_ne!(rules.copy, Some(CopyPolicy::Always), "{here}: the default");
            assert_ne!(rules.only_if_missing, Some(false), "{here}: the default");
            if line.green[table].is_object() {
                let not_null = line.not_null(table);
                let said_twice: Vec<_> = required(rules).intersection(&not_null).cloned().collect();
                assert!(said_twice.is_empty(), "{here}: {said_twice:?} is NOT NULL on green");
            }
            for (column, said) in &rules.columns {
                if let Some(prefix) = said.prefix {
                    let inferred = line.inferred_prefix(table, column);
                    assert_ne!(prefix == Prefix::Workspace, inferred, "{here}.{column}: follows from green");
                }
                assert_eq!(said.json, None, "{here}.{column}: no JSON of Kong's is anything but an object");
            }
        }
    }
}

#[test]
fn every_name_in_a_map_stands_in_a_catalog_or_is_declared_left_over() {
    for line in lines() {
        let known = |table: &str| line.blue[table].is_object() || line.green[table].is_object();
        let columns = |table: &str| {
            let mut all = types(&line.blue, table);
            all.extend(types(&line.green, table));
            all
        };
        let must_have = |table: &str, column: &str| {
            assert!(columns(table).contains_key(column), "{}: no column {table}.{column}", line.name);
        };

        let names = &line.map.names;
        let workspaces = names.workspaces.as_ref().unwrap();
        must_have(&workspaces.table, &workspaces.id);
        must_have(&workspaces.table, &workspaces.name);
        let tags = names.derived_tags.as_ref().unwrap();
        for column in [&tags.entity_id, &tags.entity_name, &tags.tags] {
            must_have(&tags.table, column);
        }
        assert!(known(names.locks_table.as_ref().unwrap()));
        for row in &line.map.bootstrap {
            must_have(&row.table, &row.column);
        }

        for (table, rules) in &line.map.tables {
            let left_over = rules.only_if_missing == Some(true);
            assert_ne!(known(table), left_over, "{} {table}: in a catalog, or left over", line.name);
            if left_over {
                assert_eq!(rules.copy, Some(CopyPolicy::Never), "{} {table}", line.name);
                assert!(rules.columns.is_empty() && rules.required.is_none(), "{} {table}", line.name);
            }
            for group in required(rules) {
                group.split('|').for_each(|column| must_have(table, column));
            }
            if let Some(partition) = &rules.partition {
                must_have(table, &partition.column);
            }
            if let Some(expiry) = &rules.expiry {
                must_have(table, &expiry.start);
                must_have(table, &expiry.period);
            }
            for (column, said) in &rules.columns {
                match said.drop {
                    Some(_) => assert!(!types(&line.green, table).contains_key(column), "{table}.{column}"),
                    None => must_have(table, column),
                }
                for part in said.cache_key.iter().flatten() {
                    if let KeyPart::Column(source) = part {
                        must_have(table, source);
                    }
                }
                if let Some(WhenNull::Sha256OfCertificate(source)) = &said.when_null {
                    must_have(table, source);
                }
            }
        }
    }
}

/// Whether blue's rows are asked depends on this: of these tables it was measured.
#[test]
fn every_open_source_table_with_prefixed_columns_has_an_entry() {
    for line in lines() {
        for table in line.tables() {
            let unique = line.model[table]["unique_fields"].as_array().unwrap();
            let prefixed = unique.iter().any(|field| field["prefixed"] == true);
            assert!(!prefixed || line.rules(table).observed, "{} {table}", line.name);
        }
    }
}

/// The maps of Enterprise, with the open-source map of the same line, the catalogs of blue and green and `schema_meta`.
fn enterprise_lines() -> Vec<(SchemaMap, SchemaMap, [Value; 2], Value)> {
    let maps = SchemaMap::built_in().unwrap();
    let (enterprise, open): (Vec<SchemaMap>, Vec<SchemaMap>) =
        maps.into_iter().partition(SchemaMap::is_enterprise);
    assert_eq!(enterprise.len(), open.len());
    let metas = json("tests/fixtures/schema_meta-enterprise.json");
    let with_base = enterprise.into_iter().zip(open);
    with_base
        .map(|(map, base)| {
            let line = map.line.clone().unwrap();
            let folder = format!("tests/fixtures/catalog/enterprise-{line}");
            let catalogs = ["cassandra", "postgres"].map(|side| json(format!("{folder}/{side}.json")));
            (map, base, catalogs, metas[line].clone())
        })
        .collect()
}

#[test]
fn a_map_of_enterprise_is_laid_over_the_open_source_line_of_the_same_version() {
    for (map, base, [blue, green], meta) in enterprise_lines() {
        let line = map.line.as_deref().unwrap();
        assert_eq!((Some(line), &map.names), (base.line.as_deref(), &base.names));
        for (table, rules) in &base.tables {
            let own = map.rules(table);
            assert!(own.observed, "{line} {table}");
            assert!(rules.columns.keys().all(|column| own.columns.contains_key(column)), "{line} {table}");
        }
        let detect = map.detect.as_ref().unwrap();
        let last = strings(&meta["enterprise"]).last().copied();
        assert_eq!((detect.subsystem.as_str(), last), ("enterprise", Some(detect.last_executed.as_str())));
        for (subsystem, folded) in &map.folded {
            let executed = strings(&meta[subsystem]);
            assert!(!executed.is_empty(), "{line} has the subsystem {subsystem}");
            assert!(folded.iter().all(|name| !executed.contains(&name.as_str())), "{line} {subsystem}");
        }
        for (table, rules) in map.tables.iter().filter(|(_, rules)| !rules.observed) {
            let never = rules.copy == Some(CopyPolicy::Never);
            let known =
                |column: &str| [&blue, &green].iter().any(|side| types(side, table).contains_key(column));
            assert!(
                never || blue[table].is_object() && green[table].is_object() || line == "2.8",
                "{line} {table}"
            );
            for column in rules.columns.keys().filter(|_| green[table].is_object()) {
                assert!(known(column), "{line} {table}.{column}");
            }
            for column in required(rules).iter().chain(rules.outlives_row.iter().flatten()) {
                assert!(known(column), "{line} {table}.{column}");
            }
        }
        for row in &map.bootstrap {
            assert!(types(&green, &row.table).contains_key(&row.column), "{}.{}", row.table, row.column);
            for child in &row.with {
                let keys = green[child]["foreign_keys"].as_array().unwrap();
                assert!(
                    keys.iter().any(|key| key["ref_table"] == row.table),
                    "{child} refers to {}",
                    row.table
                );
            }
        }
    }
}

/// The rows of a bootstrap, as `tests/fixtures/enterprise-2.8/seed` has them, in tables that move.
#[test]
fn every_row_of_a_bootstrap_of_enterprise_is_known() {
    let (map, ..) = enterprise_lines().remove(0);
    let folder = root().join("tests/fixtures/enterprise-2.8/seed");
    let is_known = |table: &str, row: &Value| {
        map.bootstrap.iter().any(|known| known.table == table && row[&known.column] == known.value)
    };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let table = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if map.rules(&table).copy == Some(CopyPolicy::Never) {
            continue;
        }
        let made_with = map.bootstrap.iter().any(|known| known.with.contains(&table));
        for row in std::fs::read_to_string(&path).unwrap().lines() {
            let row: Value = serde_json::from_str(row).unwrap();
            assert!(made_with || is_known(&table, &row), "{table} {row}");
        }
    }
}

const ON_REQUEST: &[&str] =
    &["audit_objects", "audit_requests", "consumer_reset_secrets", "license_data", "login_attempts"];
const NEVER: &[&str] = &[
    "consumers_rbac_users_map",
    "keyring_meta_active",
    "rl_counters",
    "workspace_entities",
    "ws_migrations_backup",
];

#[test]
fn what_does_not_move_on_enterprise_has_its_sentence() {
    let docs = include_str!("../docs/enterprise.md");
    for (map, base, [blue, green], _) in enterprise_lines() {
        let tables = keys(&blue).into_iter().chain(keys(&green));
        for table in tables.filter(|table| !base.tables.contains_key(*table)) {
            let rules = map.rules(table);
            let is_vitals = table.starts_with("vitals_");
            let expected = match table {
                _ if is_vitals || NEVER.contains(&table) => CopyPolicy::Never,
                _ if ON_REQUEST.contains(&table) => CopyPolicy::OnRequest,
                _ => CopyPolicy::Always,
            };
            assert_eq!(rules.copy.unwrap_or(CopyPolicy::Always), expected, "{table}");
            assert_eq!(rules.reason.is_some(), expected != CopyPolicy::Always, "{table}");
            let named = docs.contains(&format!("`{table}`")) || is_vitals && docs.contains("`vitals_*`");
            assert!(
                named || expected == CopyPolicy::Always,
                "docs/enterprise.md says why {table} does not move"
            );
        }
        assert_eq!(map.rules("license_data_tmp_1").copy, Some(CopyPolicy::Never));
    }
}

/// The columns that carry the workspace, by the definitions of Enterprise's entities.
const PREFIXED: &[(&str, &[&str])] = &[
    ("application_instances", &["composite_id"]),
    ("applications", &["custom_id"]),
    ("consumer_groups", &["name"]),
    ("consumers", &["custom_id", "username", "username_lower"]),
    ("developers", &["custom_id", "email"]),
    ("document_objects", &["path"]),
    ("files", &["path"]),
    ("keyauth_enc_credentials", &["key"]),
    ("konnect_applications", &["client_id"]),
    ("rbac_roles", &["name"]),
    ("rbac_users", &["name"]),
];

#[test]
fn the_prefixed_columns_of_enterprise_are_those_of_its_entities() {
    for (map, base, [blue, green], _) in enterprise_lines() {
        let name = "Enterprise";
        let line = Line { name, map, model: Value::Null, blue, green };
        for table in keys(&line.blue).into_iter().filter(|table| line.green[table].is_object()) {
            let stated =
                PREFIXED.iter().find(|(prefixed, _)| *prefixed == table).map_or(&[][..], |(_, c)| *c);
            if stated.is_empty() && base.tables.contains_key(table) {
                continue;
            }
            let found: Vec<String> =
                types(&line.blue, table).into_keys().filter(|column| line.prefixed(table, column)).collect();
            assert_eq!(found, stated, "{:?} {table}", line.map.line);
        }
    }
}

#[test]
fn an_enterprise_that_no_map_is_for_has_the_rules_of_both() {
    let map = SchemaMap::of_unknown_enterprise("018_300_to_310").unwrap();
    assert_eq!(map.line.as_deref(), Some("3.1"));
    assert!(map.rules("keys").columns.contains_key("cache_key"), "open-source Kong 3.1 has keys");
    assert_eq!(map.rules("vitals_stats_hours").copy, Some(CopyPolicy::Never));
    assert!(map.rules("konnect_applications").columns.contains_key("client_id"), "Enterprise 3.0 has them");
    assert!(map.bootstrap.iter().any(|row| row.value == "super-admin"));
    let map = SchemaMap::of_unknown_enterprise("099_something_else").unwrap();
    assert_eq!(map.line, None);
    assert!(map.rules("keys").observed, "the newest open-source line");
}

#[test]
fn the_line_is_told_by_the_last_migration_of_core() {
    let meta = json("tests/fixtures/schema_meta.json");
    for (line, (_, release)) in lines().iter().zip(LINES) {
        let detect = line.map.detect.as_ref().unwrap();
        assert_eq!(line.map.line.as_deref(), Some(line.name));
        assert_eq!(meta["versions"][release][&detect.subsystem]["last_executed"], detect.last_executed);
        assert_eq!(meta["core_last_executed_to_version"][&detect.last_executed], line.name);
    }
}

#[test]
fn the_prefixed_columns_are_those_that_were_measured() {
    for line in lines() {
        for table in line.tables() {
            let unique = line.model[table]["unique_fields"].as_array().unwrap();
            let prefixed: BTreeSet<&str> = unique
                .iter()
                .filter(|f| f["prefixed"] == true)
                .map(|f| f["name"].as_str().unwrap())
                .collect();
            for column in types(&line.blue, table).keys().chain(types(&line.green, table).keys()) {
                let measured = prefixed.contains(column.as_str());
                assert_eq!(line.prefixed(table, column), measured, "{} {table}.{column}", line.name);
            }
        }
    }
}

#[test]
fn the_required_columns_are_those_that_were_measured() {
    for line in lines() {
        for table in line.moved() {
            let rules = line.rules(table);
            let mut found = required(&rules);
            found.extend(line.not_null(table));
            let mut measured = line.not_null(table);
            measured.extend(strings(&line.model[table]["required_columns"]).into_iter().map(str::to_owned));
            assert_eq!(found, measured, "{} {table}", line.name);
        }
    }
}

#[test]
fn null_is_filled_in_exactly_two_columns() {
    for line in lines() {
        let mut filled = Vec::new();
        for (table, rules) in &line.map.tables {
            for (column, said) in &rules.columns {
                if let Some(when_null) = &said.when_null {
                    assert!(line.not_null(table).contains(column), "{table}.{column} may be null");
                    filled.push((table.as_str(), column.as_str(), when_null.clone()));
                }
            }
        }
        let digest = WhenNull::Sha256OfCertificate("cert".to_owned());
        let expected =
            [("ca_certificates", "cert_digest", digest), ("plugins", "enabled", WhenNull::Boolean(true))];
        assert_eq!(filled, expected, "{}", line.name);
        assert!(line.has_rule("plugins", "enabled null: write true"));
        assert!(line.has_rule("ca_certificates", "cert_digest = lower-case hex of SHA-256 over the DER"));
    }
}

#[test]
fn the_cache_keys_are_those_that_were_measured() {
    for line in lines() {
        for table in line.tables() {
            // The model adds notes to a recipe: in brackets, and "or empty" for a column that may be null.
            let noted = line.model[table]["cache_key"].as_str();
            let measured = noted.map(|t| t.split(" (").next().unwrap().replace(" or empty", ""));
            let rules = line.rules(table);
            let rule = rules.columns.get(line.cache_key_column()).and_then(|c| c.cache_key.as_deref());
            assert_eq!(rule.map(recipe), measured, "{} {table}", line.name);
            let has_column = types(&line.green, table).contains_key(line.cache_key_column());
            assert_eq!(has_column, measured.is_some(), "{} {table}", line.name);
            let elsewhere = rules.columns.iter().filter(|(_, c)| c.cache_key.is_some());
            assert_eq!(elsewhere.count(), usize::from(measured.is_some()), "{} {table}", line.name);
        }
    }
}

#[test]
fn the_expiries_are_those_that_were_measured() {
    for line in lines() {
        for table in line.moved() {
            let model = &line.model[table];
            let expiry = line.rules(table).expiry;
            assert_eq!(line.inferred_expiry(table), model["ttl"] == true, "{} {table}", line.name);
            let by_window = model["ttl"] == true && model["ttl_probe_column"].is_null();
            assert_eq!(expiry.is_some(), by_window, "{} {table}", line.name);
        }
        let counters = line.rules("ratelimiting_metrics").expiry.unwrap();
        let seconds: Vec<(&str, i64)> = counters.seconds.iter().map(|(p, s)| (p.as_str(), *s)).collect();
        let measured = [
            ("day", 86_400),
            ("hour", 3_600),
            ("minute", 60),
            ("month", 2_592_000),
            ("second", 1),
            ("year", 31_536_000),
        ];
        assert_eq!(seconds, measured);
    }
}

#[test]
fn the_partitions_are_those_that_were_measured() {
    for line in lines() {
        for table in line.tables() {
            let partition = line.rules(table).partition;
            assert_eq!(partition.is_some(), line.model[table]["partitioned"] == true, "{table}");
            if let Some(partition) = partition {
                assert_eq!((partition.column.as_str(), partition.value.as_str()), ("partition", table));
            }
        }
    }
}

#[test]
fn what_is_moved_and_who_writes_it_is_what_was_measured() {
    for line in lines() {
        for table in line.tables() {
            let rules = line.rules(table);
            let copy = match line.kind(table) {
                "config" | "credential" => None,
                "runtime" | "meta" | "derived" | "legacy" => Some(CopyPolicy::Never),
                "optional" if line.has_rule(table, "copy by default") => None,
                // No entry: whether green has the table decides, and rows without a table there stop the run.
                "optional" if line.has_rule(table, "refuse if it has rows") => None,
                "optional" if line.has_rule(table, "skip by default") => Some(CopyPolicy::OnRequest),
                "optional" if line.has_rule(table, "copy on request") => Some(CopyPolicy::OnRequest),
                "optional" if line.has_rule(table, "lives 300 s at most: skip by default") => {
                    Some(CopyPolicy::OnRequest)
                }
                kind => panic!("{} {table}: {kind} {:?}", line.name, line.model[table]["rules"]),
            };
            assert_eq!(rules.copy, copy, "{} {table}", line.name);
            // What is optional is written while requests flow; the table of the vault-auth plugin is not.
            if matches!(line.kind(table), "config" | "credential" | "optional") {
                let traffic = line.kind(table) == "optional" && table != "vault_auth_vaults";
                assert_eq!(rules.writer == Some(Writer::Traffic), traffic, "{} {table}", line.name);
            }
        }
    }
}

#[test]
fn a_parent_loads_before_its_children() {
    for line in lines() {
        let order = |table: &str| line.model[table]["load_order"].as_i64();
        for table in line.moved() {
            for key in line.green[table]["foreign_keys"].as_array().unwrap() {
                let parent = key["ref_table"].as_str().unwrap();
                assert!(line.moved().contains(&parent), "{} {table} needs {parent}", line.name);
                assert!(order(parent).unwrap() < order(table).unwrap(), "{} {table}", line.name);
            }
        }
        for table in line.tables() {
            let never = line.rules(table).copy == Some(CopyPolicy::Never);
            assert_eq!(order(table).is_none(), never, "{} {table}", line.name);
        }
    }
}

#[test]
fn every_column_of_a_moved_table_has_a_source_and_a_target() {
    for line in lines() {
        for table in line.moved() {
            let (blue, green) = (types(&line.blue, table), types(&line.green, table));
            let rules = line.rules(table);
            for (column, to) in &green {
                let here = format!("{} {table}.{column}", line.name);
                let Some(from) = blue.get(column) else {
                    assert!(column == line.expiry_column(), "{here} has no source");
                    continue;
                };
                let pair = (from.as_str(), to.as_str());
                assert!(INFERRED_PAIRS.contains(&pair) || pair == HEADERS_PAIR, "{here}: {pair:?}");
                let measured = line.model[table]["column_map"][column].as_str().unwrap().replace(", ", ",");
                assert_eq!(measured, format!("{from} -> {to}").replace(", ", ","), "{here}");
            }
            for column in blue.keys().filter(|c| !green.contains_key(*c)) {
                let partition = rules.partition.as_ref().is_some_and(|p| p.column == *column);
                let dropped = rules.columns.get(column).is_some_and(|c| c.drop.is_some());
                assert!(partition || dropped, "{} {table}.{column} has no target", line.name);
            }
        }
    }
}

#[test]
fn the_tables_with_tags_are_those_with_kongs_trigger() {
    for line in lines() {
        let tags = line.map.names.derived_tags.as_ref().unwrap();
        let call = format!("EXECUTE FUNCTION {}()", tags.function);
        for table in line.tables().into_iter().filter(|t| line.green[t].is_object()) {
            let triggers = line.green[table]["triggers"].as_array().unwrap();
            let filled = triggers.iter().any(|t| t["def"].as_str().unwrap().ends_with(&call));
            assert_eq!(filled, line.model[table]["tags_trigger"] == true, "{} {table}", line.name);
        }
    }
}

#[test]
fn the_page_on_the_data_model_names_every_table() {
    let page = std::fs::read_to_string(root().join("docs/what-moves.md")).unwrap();
    for line in lines() {
        for table in line.tables().into_iter().chain(line.map.tables.keys().map(String::as_str)) {
            assert!(
                page.contains(&format!("`{table}`")),
                "docs/what-moves.md lacks {table} of {}",
                line.name
            );
        }
    }
}
