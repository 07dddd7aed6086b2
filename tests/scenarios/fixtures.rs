//! Rows that Kong itself wrote to both databases: what a migration makes of blue's equals what Kong wrote to green.
//!
//! `tests/fixtures/README.md` names the columns that differ by the clock or by chance of the two recordings; their
//! expected values are derived from the blue row.

use std::collections::{BTreeMap, BTreeSet};

use kongferry_harness::fixture::{BlueRow, Fixture};
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Map, Value};

use super::support::{Ran, migrate};

/// Sets of Kong's schema: Cassandra returns them sorted, PostgreSQL as the client gave them.
const SETS: &[&str] =
    &["tags", "methods", "protocols", "snis", "sources", "destinations", "ca_certificates", "redirect_uris"];

/// Tables that are not moved unless asked for.
const ON_REQUEST: &[&str] =
    &["sessions", "oauth2_authorization_codes", "ratelimiting_metrics", "response_ratelimiting_metrics"];

/// Tables that are never moved.
const NEVER: &[&str] = &["schema_meta", "locks", "cluster_events", "clustering_data_planes", "tags", "ttls"];

/// What the recordings of blue and green hold differently for reasons of their own: compared with blue's row instead.
fn is_of_the_clock(table: &str, column: &str) -> bool {
    match column {
        "updated_at" | "ttl" => true,
        "created_at" => matches!(
            table,
            "workspaces" | "oauth2_tokens" | "sessions" | "keyauth_credentials" | "acme_storage"
        ),
        "key" => table == "keyauth_credentials",
        "client_secret" => table == "oauth2_credentials",
        "value" => table == "parameters",
        "access_token" | "refresh_token" => table == "oauth2_tokens",
        _ => false,
    }
}

async fn moved(line: &str) -> (Keyspace, Database, Ran) {
    let blue = lab().filled_keyspace(line).await.expect("blue");
    let green = lab().fresh_green(line).await.expect("green");
    let ran = migrate(&blue, &green).await.expect_code(3);
    (blue, green, ran)
}

/// Recorded rows that cannot expire while a test runs.
fn lasting(fixture: &Fixture, table: &str) -> usize {
    let is_short = |seconds: &i32| *seconds < 3600;
    let lasts = |row: &BlueRow| !row.ttl.iter().flatten().any(|(_, seconds)| is_short(seconds));
    fixture.blue.get(table).map_or(0, |rows| rows.iter().filter(|row| lasts(row)).count())
}

fn by_id(rows: &[Value]) -> BTreeMap<String, &Map<String, Value>> {
    let id = |row: &Value| row["id"].as_str().or(row["key"].as_str()).unwrap_or_default().to_owned();
    rows.iter().filter_map(|row| Some((id(row), row.as_object()?))).collect()
}

/// A value without what has no meaning: the order of sets, and empty collections, which Cassandra holds as null.
fn meaning(column: &str, value: &Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => Value::Null,
        Value::Object(members) if members.is_empty() && column == "headers" => Value::Null,
        Value::Array(items) if SETS.contains(&column) => {
            let mut items = items.clone();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(members) if column == "headers" => Value::Object(
            members.iter().map(|(name, values)| (name.clone(), meaning("tags", values))).collect(),
        ),
        other => other.clone(),
    }
}

/// Every table that is moved, field by field, against the rows that Kong wrote to PostgreSQL.
async fn equals_what_kong_wrote(line: &str) {
    let (_blue, green, ran) = moved(line).await;
    let fixture = Fixture::shipped(line).expect("fixture");
    let recorded = fixture.green().expect("green rows");
    let generated: BTreeSet<&str> = ["oauth2_tokens", "vaults_beta"].into();
    for (table, rows) in &recorded {
        if NEVER.contains(&table.as_str()) || ON_REQUEST.contains(&table.as_str()) {
            continue;
        }
        let ours = green.rows(table).await.expect("rows of green");
        let rejected = ran.rejects.iter().filter(|reject| reject["table"] == *table).count();
        let report = ran.table(table);
        let count = |class: &str| report[class].as_u64().expect("a count");
        let (read, expired) = (count("source"), count("expired"));
        let accounted = (ours.len() + rejected) as u64 + expired;
        assert_eq!(accounted, read, "{table}: rows of green, rejects and expired rows make blue's");
        assert!(
            read as usize >= lasting(&fixture, table),
            "{table}: rows without a short life were all read"
        );
        if generated.contains(table.as_str()) {
            continue;
        }
        let may_expire = lasting(&fixture, table) < fixture.blue_count(table);
        let (ours, theirs) = (by_id(&ours), by_id(rows));
        for (id, theirs) in theirs {
            // Rows made by the run itself, such as snis given inline, have other ids on the two sides.
            let Some(ours) = ours.get(&id) else {
                assert!(table == "snis" || may_expire, "{table} {id} is missing on green");
                continue;
            };
            for (column, expected) in theirs {
                if is_of_the_clock(table, column) {
                    continue;
                }
                assert_eq!(
                    meaning(column, &ours[column]),
                    meaning(column, expected),
                    "{table}.{column} of {id} on Kong {line}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kong_2_8_rows_equal_what_kong_wrote_to_postgres() {
    equals_what_kong_wrote("2.8").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kong_3_3_rows_equal_what_kong_wrote_to_postgres() {
    equals_what_kong_wrote("3.3").await;
}

/// What differs between the recordings by the clock or by chance equals blue's own value, as it must.
async fn equals_blue_where_recordings_differ(line: &str) {
    let (blue, green, ran) = moved(line).await;
    for table in [
        "keyauth_credentials",
        "oauth2_credentials",
        "oauth2_tokens",
        "parameters",
        "workspaces",
        "consumers",
        "plugins",
        "routes",
    ] {
        let on_blue: Vec<Value> =
            blue.rows(table).await.expect("blue").into_iter().map(Value::Object).collect();
        let on_green = green.rows(table).await.expect("green");
        let on_green = by_id(&on_green);
        for (id, row) in by_id(&on_blue) {
            let Some(green) = on_green.get(&id) else {
                assert!(ran.reject(table, &id).is_some(), "{table} {id} is neither on green nor rejected");
                continue;
            };
            let workspace = row.get("ws_id").and_then(Value::as_str).unwrap_or_default();
            for (column, value) in row.iter().filter(|(column, _)| is_of_the_clock(table, column)) {
                let expected = match value {
                    Value::String(text) => {
                        Value::from(text.strip_prefix(&format!("{workspace}:")).unwrap_or(text))
                    }
                    other => other.clone(),
                };
                assert_eq!(instant(&green[column]), instant(&expected), "{table}.{column} of {id}");
            }
        }
    }
}

/// Two spellings of one instant are the same value.
pub fn instant(value: &Value) -> Value {
    let Some(text) = value.as_str() else { return value.clone() };
    let spelled = text.replacen(' ', "T", 1);
    match chrono::DateTime::parse_from_rfc3339(&spelled) {
        Ok(instant) => Value::from(instant.timestamp_millis()),
        Err(_) => value.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_columns_are_those_of_blue() {
    equals_blue_where_recordings_differ("2.8").await;
    equals_blue_where_recordings_differ("3.3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kong_3_0_to_3_2_are_migrated_as_well() {
    for line in ["3.0", "3.1", "3.2"] {
        let (_, green, ran) = moved(line).await;
        assert_eq!(ran.json()["kong"], line);
        assert_eq!(ran.json()["totals"]["rejected"], 1, "only the consumer with U+0000: {:#?}", ran.rejects);
        assert_eq!(green.count("plugins").await.expect("count"), 47);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_blue_is_counted_in_exactly_one_class() {
    let (_, _, ran) = moved("3.3").await;
    let report = ran.json();
    for table in report["tables"].as_array().expect("tables").iter().chain([&report["totals"]]) {
        let number = |name: &str| table[name].as_u64().unwrap_or_else(|| panic!("no {name} in {table}"));
        let classes = ["applied", "repaired", "rejected", "expired", "not_copied"];
        assert_eq!(number("source"), classes.map(number).iter().sum::<u64>(), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_changes_nothing() {
    let (blue, green, _) = moved("3.3").await;
    let before = green.rows("plugins").await.expect("rows");
    let again = migrate(&blue, &green).await.expect_code(3);
    assert_eq!(again.json()["outcome"], "applied");
    assert_eq!(green.rows("plugins").await.expect("rows"), before);
}
