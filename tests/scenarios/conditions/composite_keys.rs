//! 4.17 to 4.19: composite keys are rebuilt; regular expressions as paths and what plugins keep go as they are.

use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, cache_key, id};

#[tokio::test(flavor = "multi_thread")]
async fn composite_keys_are_rebuilt_for_all_four_tables() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let scoped = json!({ "name": "cors", "route_id": id("routes"), "service_id": id("services"), "consumer_id": id("consumers") });
    let with = |mut row: Value, key: Value| {
        row["cache_key"] = key;
        row
    };
    let tables: Vec<(&str, Value)> = vec![
        ("plugins", scoped),
        ("plugins", json!({ "name": "global" })),
        ("acls", json!({ "group": "a:b" })),
        ("targets", json!({ "target": "10.0.0.1:80" })),
        ("keys", json!({ "kid": "in a set", "set_id": id("key_sets") })),
        ("keys", json!({ "kid": "alone" })),
    ];
    let stored = [
        Value::Null,
        json!(""),
        json!("plugins:cors:::::"),
        // What Kong 3.0's own migration wrote for a null.
        json!(format!("targets:nil:10.0.0.1:80::::{}", blue.ws)),
        json!("targets:nil:10.0.0.1:80::::nil"),
    ];
    let mut expected = Vec::new();
    for (at, (table, row)) in tables.iter().enumerate() {
        for (nth, key) in stored.iter().enumerate() {
            // Each a key of its own, or they would be duplicates.
            let mut row = row.clone();
            for column in ["name", "group", "target", "kid"] {
                if let Some(value) = row[column].as_str().filter(|_| *table != "keys" || column == "kid") {
                    row[column] = format!("{value} {nth}").into();
                }
            }
            let name = format!("{table} {at} {nth}");
            let whole = blue.row(table, &name, row.clone());
            let rebuilt = cache_key(table, whole.as_object().expect("a row"));
            expected.push((*table, blue.put(table, &name, with(row, key.clone())).await, rebuilt));
        }
    }
    // A correct key: nothing to rebuild.
    let good = blue.put("acls", "good", json!({})).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, row, key) in &expected {
        assert_eq!(migrated.row(table, row)["cache_key"], key.as_str(), "{table}");
    }
    for (table, rows) in [("plugins", 10), ("acls", 5), ("targets", 5), ("keys", 10)] {
        assert_eq!(
            migrated.group("repairs", table, "cache_key", "cache_key_rebuilt")["rows"],
            rows,
            "{table}"
        );
        assert_eq!(migrated.count(table, "repaired"), rows, "{table}");
    }
    assert_eq!(
        migrated.row("acls", &good)["cache_key"],
        format!("acls:{}:good::::{}", id("consumers"), blue.ws)
    );
    assert_eq!(migrated.ran.code, 0, "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn kong_2_8_has_no_key_for_targets() {
    let blue = KongKeyspace::new("2.8").await;
    blue.parents().await;
    // Twice the same target is two targets there.
    for at in 0..2 {
        blue.put("targets", &format!("target {at}"), json!({ "target": "10.0.0.1:80" })).await;
    }
    let migrated = Migrated::new(&blue, "2.8").await;
    assert_eq!((migrated.rows("targets").len(), migrated.ran.code), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_without_a_tilde_is_noted_on_3_x_and_copied_as_it_is() {
    for (line, noted) in [("2.8", false), ("3.0", true), ("3.3", true)] {
        let blue = KongKeyspace::new(line).await;
        blue.parents().await;
        let paths = [r"/users/\d+$", "/(a|b)", r"~/said/\d+", "/plain-path_1.html/~x%20"];
        for (at, path) in paths.iter().enumerate() {
            blue.put("routes", &format!("route {at}"), json!({ "paths": ["/first", path] })).await;
        }
        let migrated = Migrated::new(&blue, line).await;
        for (at, path) in paths.iter().enumerate() {
            assert_eq!(
                migrated.row("routes", &id(&format!("route {at}")))["paths"],
                json!(["/first", path]),
                "on {line}"
            );
        }
        assert_eq!(migrated.has_group("notes", "routes", "regex_path_without_tilde"), noted, "on {line}");
        if noted {
            assert_eq!(
                migrated.group("notes", "routes", "paths", "regex_path_without_tilde")["rows"],
                2,
                "on {line}"
            );
        }
        assert_eq!(migrated.ran.code, 0);
    }
}
