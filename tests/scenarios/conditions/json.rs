//! 4.8: text that should be JSON and is not, or that jsonb refuses.

use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::KongKeyspace;

const BROKEN: &[&str] = &[
    "",
    " ",
    "{",
    "{\"a\":1,}",
    "{'a':1}",
    "{\"a\":\"\\u0000\"}",
    "{\"\\u0000\":1}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\":\"\\udc00\\ud800\"}",
    "{\"a\":\"\\ud83dx\"}",
    "{\"a\":NaN}",
    "{\"a\":nan}",
    "{\"a\":-nan}",
    "{\"a\":Infinity}",
    "{\"a\":-inf}",
    "{\"a\":0x10}",
    "{\"a\":01}",
    "{\"a\":.5}",
    "{\"a\":1} {}",
    "{\"a\":\"tab\there\"}",
    "nil",
];

const NO_OBJECT: &[&str] = &["[]", "[{}]", "\"text\"", "\"{}\"", "1", "true", "null"];

/// Every column of Kong 3.3 that is text on blue and jsonb on green.
const COLUMNS: &[(&str, &str)] = &[
    ("keys", "pem"),
    ("plugins", "config"),
    ("sm_vaults", "config"),
    ("upstreams", "healthchecks"),
    ("workspaces", "config"),
    ("workspaces", "meta"),
];

#[tokio::test(flavor = "multi_thread")]
async fn invalid_json_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    let mut expected = Vec::new();
    let cases = BROKEN
        .iter()
        .map(|text| (text, "json_invalid"))
        .chain(NO_OBJECT.iter().map(|text| (text, "json_not_object")));
    for (at, (text, reason)) in cases.enumerate() {
        for (table, column) in COLUMNS {
            let row = blue.put(table, &format!("{table} {column} {at}"), json!({ *column: text })).await;
            expected.push((*table, row, reason, *column, *text));
        }
        for column in ["sources", "destinations"] {
            let row = json!({ "service_id": null, column: [text] });
            expected.push((
                "routes",
                blue.put("routes", &format!("{column} {at}"), row).await,
                reason,
                column,
                *text,
            ));
        }
    }
    let migrated = Migrated::with(&blue, "3.3", &["--show-secrets"]).await;
    for (table, row, reason, column, text) in &expected {
        let line = migrated.rejected(table, row, reason, column);
        let shown = line["row"][column].as_str().or(line["row"][column][0].as_str());
        assert_eq!(shown, Some(*text), "the text is shown as blue holds it: {line:#}");
    }
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_only_postgres_can_check_is_rejected_with_its_error() {
    let blue = KongKeyspace::new("3.3").await;
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let huge = "{\"a\":1e200000}";
    let rows = [
        blue.put("plugins", "deep", json!({ "config": deep })).await,
        blue.put("plugins", "huge", json!({ "config": huge })).await,
    ];
    let good = blue.put("plugins", "good", json!({})).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for row in &rows {
        let line = migrated.ran.reject("plugins", row).unwrap_or_else(|| panic!("{row} was not rejected"));
        assert_eq!(line["reason"], "refused_by_postgres", "{}", line["message"]);
        assert!(
            line["message"].as_str().is_some_and(|text| text.contains("SQLSTATE")),
            "{}",
            line["message"]
        );
    }
    migrated.row("plugins", &good);
    assert_eq!(migrated.ran.rejects.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_but_valid_json_keeps_its_meaning() {
    let blue = KongKeyspace::new("3.3").await;
    let texts = [
        ("{}", json!({})),
        ("{\"list\":{}}", json!({ "list": {} })),
        ("{\"a\":1,\"a\":2}", json!({ "a": 2 })),
        ("{\"a\":\"\\/path\"}", json!({ "a": "/path" })),
        ("{\"a\":\"\\ud83d\\udc18 🐘\"}", json!({ "a": "🐘 🐘" })),
        (" \r\n{ \"a\" : [ ] }\t", json!({ "a": [] })),
        ("{\"a\":null,\"b\":[null]}", json!({ "a": null, "b": [null] })),
        ("{\"\":\"\"}", json!({ "": "" })),
    ];
    let mut expected = Vec::new();
    for (at, (text, value)) in texts.iter().enumerate() {
        expected.push((blue.put("plugins", &format!("plugin {at}"), json!({ "config": text })).await, value));
    }
    let numbers = blue
        .put(
            "plugins",
            "numbers",
            json!({ "config": "{\"a\":1e15,\"b\":0.1,\"c\":100000000000000000000,\"d\":1.50,\"e\":-0}" }),
        )
        .await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for (row, value) in &expected {
        assert_eq!(migrated.row("plugins", row)["config"], **value);
    }
    // As PostgreSQL itself casts the text: through no floating point of ours.
    let sql = format!("select to_jsonb(config::text) from plugins where id = '{numbers}'");
    let cast = migrated.green.json(&sql).await.expect("a row");
    assert_eq!(
        cast,
        [Value::from(
            "{\"a\": 1000000000000000, \"b\": 0.1, \"c\": 100000000000000000000, \"d\": 1.50, \"e\": 0}"
        )]
    );
}
