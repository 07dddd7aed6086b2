//! The plans that the program makes of Kong's own catalogs say what was measured about Kong's data.
//!
//! `schema_maps.rs` checks the maps without believing the planner; this checks the planner itself, on the catalogs that
//! real servers left. The facts are in `tests/fixtures/model.json`.

use std::collections::{BTreeMap, BTreeSet};

use kongferry::catalog::blue::{BlueCatalog, BlueTable};
use kongferry::catalog::green::{GreenCatalog, GreenTable};
use kongferry::mapping::schema_map::{SchemaMap, Writer};
use kongferry::mapping::table_plan::{
    CacheKeyPart, Cell, ColumnSource, ExpiryChoice, KeyspacePlan, Substitute, TableChoices, TablePlan,
};
use serde_json::Value;

mod catalogs;
use catalogs::texts;

/// Line of Kong versions → the release whose facts stand in `model.json`.
const LINES: [(&str, &str); 5] =
    [("2.8", "2.8.5"), ("3.0", "3.0.2"), ("3.1", "3.1.1"), ("3.2", "3.2.2"), ("3.3", "3.3.1")];

/// Tables that move only with `--include-table`.
const ON_REQUEST: [&str; 4] =
    ["oauth2_authorization_codes", "ratelimiting_metrics", "response_ratelimiting_metrics", "sessions"];

/// One line's plan, with all tables that move on request, beside its facts.
struct Line {
    name: &'static str,
    plan: KeyspacePlan,
    green: GreenCatalog,
    model: Value,
}

fn choices(include: &[&str]) -> TableChoices {
    TableChoices { include: include.iter().map(|&t| t.to_owned()).collect(), ..TableChoices::default() }
}

fn lines(include: &[&str]) -> Vec<Line> {
    let model = catalogs::json("model.json");
    let with_map = |((name, release), map): (&(&'static str, &str), SchemaMap)| {
        let green = catalogs::green(name);
        let plan = KeyspacePlan::resolve(&map, &catalogs::blue(name), &green, &choices(include));
        Line { name, plan, green, model: model["versions"][release].clone() }
    };
    LINES.iter().zip(SchemaMap::built_in().unwrap()).map(with_map).collect()
}

impl Line {
    fn not_null(&self, table: &str) -> BTreeSet<String> {
        let columns = self.green.tables[table].columns.iter().filter(|c| c.not_null);
        columns.map(|c| c.name.clone()).collect()
    }
}

/// A composite key in the notation of the model.
fn recipe(plan: &TablePlan, parts: &[CacheKeyPart]) -> String {
    let part = |part: &CacheKeyPart| match part {
        CacheKeyPart::Text(text) => text.clone(),
        CacheKeyPart::Cell { cell, .. } => format!("<{}>", plan.cell_name(*cell).unwrap()),
    };
    parts.iter().map(part).collect::<Vec<_>>().join(":")
}

#[test]
fn kongs_own_tables_leave_nothing_to_decide() {
    for line in lines(&ON_REQUEST) {
        assert_eq!(line.plan.obstacles, [], "{}", line.name);
        for plan in &line.plan.moved {
            assert!(plan.unknown.is_empty(), "{} {}", line.name, plan.table);
        }
        assert!(line.plan.only_green.is_empty(), "{} {:?}", line.name, line.plan.only_green);
    }
}

#[test]
fn the_tables_that_stay_are_those_that_were_measured() {
    for line in lines(&[]) {
        for left in &line.plan.not_moved {
            let kind = line.model[&left.table]["kind"].as_str().unwrap();
            let never = matches!(kind, "runtime" | "meta" | "derived" | "legacy");
            let on_request = ON_REQUEST.contains(&left.table.as_str());
            let unknown_to_green = left.table == "vault_auth_vaults";
            assert!(never || on_request || unknown_to_green, "{} {}", line.name, left.table);
            assert_eq!(left.must_be_empty, unknown_to_green, "{} {}", line.name, left.table);
        }
        let moved: BTreeSet<&str> = line.plan.moved.iter().map(|p| p.table.as_str()).collect();
        for (table, facts) in line.model.as_object().unwrap() {
            let kind = facts["kind"].as_str().unwrap();
            let measured = matches!(kind, "config" | "credential")
                || matches!(table.as_str(), "oauth2_tokens" | "acme_storage");
            assert_eq!(moved.contains(table.as_str()), measured, "{} {table}", line.name);
        }
    }
}

#[test]
fn a_table_that_moves_on_request_names_its_switch() {
    for line in lines(&[]) {
        for table in
            ON_REQUEST.iter().filter(|table| line.plan.not_moved.iter().any(|left| left.table == **table))
        {
            let left = line.plan.not_moved.iter().find(|left| left.table == *table).unwrap();
            assert!(left.reason.ends_with(&format!(" --include-table {table} moves it.")), "{}", left.reason);
        }
        let others = line.plan.not_moved.iter().filter(|left| !ON_REQUEST.contains(&left.table.as_str()));
        for left in others {
            assert!(!left.reason.contains("--include-table"), "{}", left.reason);
        }
    }
}

#[test]
fn what_never_moves_is_refused_to_whoever_asks_for_it() {
    for line in lines(&["locks", "sessions"]) {
        let [obstacle] = &line.plan.obstacles[..] else { panic!("{:?}", line.plan.obstacles) };
        assert!(obstacle.problem.contains("\"locks\" is never moved"), "{}", obstacle.problem);
        assert!(obstacle.remedy.starts_with("Locks of running migrations"), "{}", obstacle.remedy);
    }
}

#[test]
fn tables_are_in_the_order_that_was_measured() {
    for line in lines(&ON_REQUEST) {
        let at: BTreeMap<&str, usize> =
            line.plan.moved.iter().enumerate().map(|(at, plan)| (plan.table.as_str(), at)).collect();
        for table in at.keys() {
            for key in line.green.tables[*table].foreign_keys.iter().filter(|key| key.parent != *table) {
                let order = |table: &str| line.model[table]["load_order"].as_i64().unwrap();
                assert!(order(&key.parent) < order(table), "{} {table}: the facts", line.name);
                assert!(at[key.parent.as_str()] < at[table], "{} {table}: the plan", line.name);
            }
        }
    }
}

#[test]
fn every_column_comes_from_where_it_was_measured() {
    for line in lines(&ON_REQUEST) {
        for plan in &line.plan.moved {
            let facts = &line.model[&plan.table];
            let unique = facts["unique_fields"].as_array().unwrap();
            for column in &plan.columns {
                let here = format!("{} {}.{}", line.name, plan.table, column.name);
                let pair = &facts["column_map"][&column.name];
                match &column.source {
                    ColumnSource::Cell { cell, prefixed, when_null, .. } => {
                        assert_eq!(plan.cell_name(*cell), Some(column.name.as_str()), "{here}");
                        let measured =
                            unique.iter().any(|f| f["name"] == column.name.as_str() && f["prefixed"] == true);
                        assert_eq!(*prefixed, measured, "{here}: prefix");
                        let substitute = match when_null {
                            Some(Substitute::Boolean(value)) => value.to_string(),
                            Some(Substitute::Integer(value)) => format!("{value:?}"),
                            Some(Substitute::CertificateDigest(cell)) => {
                                plan.cell_name(*cell).unwrap().to_owned()
                            }
                            None => String::new(),
                        };
                        let expected = match (plan.table.as_str(), column.name.as_str()) {
                            ("plugins", "enabled") => "true",
                            ("ca_certificates", "cert_digest") => "cert",
                            _ => "",
                        };
                        assert_eq!(substitute, expected, "{here}: null");
                        assert!(pair.as_str().unwrap().ends_with(&column.green_type), "{here}: {pair}");
                    }
                    ColumnSource::CacheKey { cell, parts } => {
                        assert_eq!(
                            cell.and_then(|c| plan.cell_name(c)),
                            Some(column.name.as_str()),
                            "{here}"
                        );
                        let noted = facts["cache_key"].as_str().unwrap();
                        let measured = noted.split(" (").next().unwrap().replace(" or empty", "");
                        assert_eq!(recipe(plan, parts), measured, "{here}");
                    }
                    ColumnSource::CellExpiry { ttls, now, choice, .. } => {
                        assert!(matches!(plan.cells[*now], Cell::ReadTime), "{here}");
                        assert!(facts["ttl_probe_column"].is_string(), "{here}: Kong asks for no expiry");
                        assert_eq!(*choice, ExpiryChoice::Smallest, "{here}");
                        let asked = ttls.iter().filter_map(|&at| match &plan.cells[at] {
                            Cell::TimeToLive(name) => Some(name.as_str()),
                            _ => None,
                        });
                        let exists = |name: &&&str| plan.columns.iter().any(|own| own.name == **name);
                        let needed = needed_cells(&plan.table).iter().filter(exists).copied();
                        assert_eq!(asked.collect::<Vec<_>>(), needed.collect::<Vec<_>>(), "{here}");
                    }
                    ColumnSource::WhenNamed { .. } => panic!("{here} is Enterprise's"),
                    ColumnSource::WindowExpiry { start, period, .. } => {
                        assert_eq!(facts["ttl"], true, "{here}");
                        assert!(facts["ttl_probe_column"].is_null(), "{here}");
                        assert_eq!(plan.cell_name(*start), Some("period_date"), "{here}");
                        assert_eq!(plan.cell_name(*period), Some("period"), "{here}");
                    }
                    ColumnSource::Null => panic!("{here} comes from nowhere"),
                }
            }
            assert_eq!(plan.expiry.is_some(), facts["ttl"] == true, "{} {}", line.name, plan.table);
            let has_key = plan.columns.iter().any(|c| matches!(c.source, ColumnSource::CacheKey { .. }));
            assert_eq!(has_key, facts["cache_key"].is_string(), "{} {}", line.name, plan.table);
        }
    }
}

/// The cells without which Kong cannot use a row of a table that expires.
fn needed_cells(table: &str) -> &'static [&'static str] {
    match table {
        "acme_storage" => &["key", "value"],
        "keyauth_credentials" => &["consumer_id", "key", "ws_id"],
        "oauth2_authorization_codes" => &["code", "credential_id", "plugin_id", "service_id", "ws_id"],
        "oauth2_tokens" => &["access_token", "credential_id", "refresh_token", "service_id", "ws_id"],
        "sessions" => &["session_id"],
        other => panic!("{other} expires"),
    }
}

#[test]
fn incomplete_rows_are_recognised_by_the_columns_that_were_measured() {
    for line in lines(&ON_REQUEST) {
        for plan in &line.plan.moved {
            let name = |cells: &Vec<usize>| {
                cells.iter().map(|&cell| plan.cell_name(cell).unwrap()).collect::<Vec<_>>().join("|")
            };
            let found: BTreeSet<String> = plan.required.iter().map(name).collect();
            let mut measured = line.not_null(&plan.table);
            measured.extend(texts(&line.model[&plan.table]["required_columns"]));
            // Null in these is repaired, so it does not make a row incomplete.
            for mended in ["enabled", "cert_digest"] {
                measured.remove(mended);
            }
            assert_eq!(found, measured, "{} {}", line.name, plan.table);
        }
    }
}

#[test]
fn partitions_workspaces_and_writers_are_those_that_were_measured() {
    for line in lines(&ON_REQUEST) {
        for plan in &line.plan.moved {
            let facts = &line.model[&plan.table];
            let here = format!("{} {}", line.name, plan.table);
            let partition =
                plan.partition.as_ref().map(|(cell, value)| (plan.cell_name(*cell), value.as_str()));
            let measured = (facts["partitioned"] == true).then_some((Some("partition"), plan.table.as_str()));
            assert_eq!(partition, measured, "{here}");
            assert_eq!(plan.workspace.is_some(), facts["workspaceable"] == true, "{here}");
            assert_eq!(plan.writer == Writer::Traffic, facts["kind"] == "optional", "{here}");
        }
    }
}

#[test]
fn a_dead_table_moves_once_green_has_one_of_its_name() {
    let map = SchemaMap::built_in().unwrap().pop().unwrap();
    let (mut blue, mut green) = (catalogs::blue("3.3"), catalogs::green("3.3"));
    let named =
        |name: &str, blue: &BlueCatalog| BlueTable { name: name.to_owned(), ..blue.tables["locks"].clone() };
    for name in ["apis", "cluster_ca", "nodes", "schema_migrations", "vaults", "vaults_beta"] {
        blue.tables.insert(name.to_owned(), named(name, &blue));
    }
    let plan = KeyspacePlan::resolve(&map, &blue, &green, &choices(&[]));
    let left = plan.not_moved.iter().find(|left| left.table == "nodes").unwrap();
    assert!(!left.must_be_empty);
    assert_eq!(left.reason, "Cluster membership from before Kong 1.0; no later version reads this table.");
    assert!(plan.table("nodes").is_none() && plan.table("vaults").is_none());

    let custom = GreenTable { name: "nodes".to_owned(), ..green.tables["locks"].clone() };
    green.tables.insert("nodes".to_owned(), custom);
    let plan = KeyspacePlan::resolve(&map, &blue, &green, &choices(&[]));
    assert!(plan.table("nodes").is_some() && plan.table("vaults").is_none());
}
