//! No output shows a secret: a marker stands in every column that may hold one, in rows that are rejected and in rows that
//! differ, and no report, file or log has it.

use kongferry_harness::catalog::Catalog;
use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use serde_json::{Map, Value, json};

use super::support::{Ran, kongferry, migrate_arguments};

const LINE: &str = "enterprise-3.3";

const MARKER: &str = "MARKER-5f1c";

/// Text columns with secrets, in any table.
const SECRET: &[&str] = &[
    "access_token",
    "client_secret",
    "code",
    "config",
    "configuration",
    "credential_data",
    "jwk",
    "key",
    "key_encrypted",
    "keys",
    "password",
    "payload",
    "pem",
    "refresh_token",
    "secret",
    "user_token",
    "vault_token",
];

/// A table of a custom plugin whose map calls a column secret.
const MAP: &str =
    r#"{ "format": 1, "tables": { "acme_pins": { "columns": { "pin": { "secret": true } } } } }"#;

fn id(number: usize) -> String {
    format!("5ec2e700-0000-4000-8000-{number:012}")
}

fn marker(table: &str, column: &str) -> String {
    format!("{MARKER}-{table}-{column}")
}

/// Writes into every table with such a column one row that has the marker there, of a workspace that does not exist.
/// Returns how many columns hold it.
async fn write_markers(blue: &Keyspace, catalog: &Catalog) -> usize {
    let mut columns = 0;
    for (number, (name, table)) in catalog.tables.iter().enumerate() {
        let mut row = Map::new();
        let is_key = |column: &str| table.key().iter().any(|key| key.name == column);
        for column in table.columns.iter().filter(|column| SECRET.contains(&column.name.as_str())) {
            if column.cql_type == "text" && !is_key(&column.name) {
                row.insert(column.name.clone(), marker(name, &column.name).into());
            }
        }
        if row.is_empty() {
            continue;
        }
        columns += row.len();
        for key in table.key() {
            let value = match (key.name.as_str(), key.cql_type.as_str()) {
                ("partition", _) => json!(name),
                (_, "uuid") => json!(id(number)),
                _ => json!(format!("key {number}")),
            };
            row.insert(key.name.clone(), value);
        }
        if table.columns.iter().any(|column| column.name == "ws_id") {
            row.insert("ws_id".to_owned(), json!(id(999_999)));
        }
        blue.write_row(name, &Value::Object(row)).await.expect("a row");
    }
    columns
}

fn assert_hidden(ran: &Ran, what: &str) {
    for (name, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
        let line = text.lines().find(|line| line.contains(MARKER));
        assert_eq!(line, None, "{what}: {name} shows a secret");
    }
    for line in &ran.rejects {
        assert!(!line.to_string().contains(MARKER), "{what}: the rejects file shows a secret: {line:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_output_shows_a_secret() {
    let blue = lab().bootstrapped_keyspace(LINE, None).await.expect("a keyspace");
    blue.execute("CREATE TABLE acme_pins (id uuid PRIMARY KEY, ws_id uuid, pin text, label text)")
        .await
        .expect("a table");
    let mut blue = blue;
    blue.reread().await.expect("the tables");
    let green = lab().fresh_green(LINE).await.expect("green");
    green
        .execute("create table acme_pins (id uuid primary key, ws_id uuid references workspaces (id), pin text, label text)")
        .await
        .expect("a table");
    let columns = write_markers(&blue, &Catalog::of(LINE).expect("a catalog")).await;
    assert!(columns > 25, "only {columns} columns hold the marker");
    let pin =
        json!({ "id": id(1), "ws_id": id(999_999), "pin": marker("acme_pins", "pin"), "label": "shown" });
    blue.write_row("acme_pins", &pin).await.expect("a row");
    let folder = tempfile::tempdir().expect("a directory");
    let map = folder.path().join("map.json");
    std::fs::write(&map, MAP).expect("a map");
    let map = map.display().to_string();

    let sides = ["--blue", &blue.url(), "--green", green.url()].map(str::to_owned);
    let run = async |command: &[&str]| {
        let arguments: Vec<String> =
            command.iter().map(|one| (*one).to_owned()).chain(sides.clone()).collect();
        kongferry(&arguments).await
    };
    let with_map = ["--schema-map", &map, "--rejects-file", "rejects.jsonl"];
    for more in [&["plan", "-vv"][..], &["plan", "--quick"], &["plan", "--format", "json"]] {
        let ran = run(&[more, &with_map].concat()).await.expect_code(3);
        assert!(ran.rejects.len() > 15, "{:#?}", ran.rejects);
        assert_hidden(&ran, &more.join(" "));
    }
    let shown = run(&[&["plan", "--show-secrets"][..], &with_map].concat()).await.expect_code(3);
    let rejects = Value::from(shown.rejects.clone()).to_string();
    assert!(rejects.contains(&marker("acme_pins", "pin")), "--show-secrets shows them: {rejects}");
    let more = ["--schema-map", &map, "--accept-rejects", "-vv"];
    assert_hidden(&kongferry(&migrate_arguments(&blue, &green, &more)).await.expect_code(3), "migrate");

    // What is not rejected differs: green's values were changed, and every difference is written.
    for table in ["keyring_keys", "licenses", "parameters", "acme_pins"] {
        green.execute(&format!("delete from {table}")).await.expect("deleted");
    }
    let findings = folder.path().join("findings.jsonl").display().to_string();
    for format in ["text", "json"] {
        let ran = run(&["verify", "--schema-map", &map, "--findings", &findings, "--format", format]).await;
        assert_hidden(&ran, "verify");
        let text = std::fs::read_to_string(&findings).expect("the findings");
        assert!(!text.contains(MARKER), "verify's findings show a secret: {text}");
    }
    for command in [&["inspect", "-vv"][..], &["credentials", "report", "-vv"], &["status"]] {
        assert_hidden(&run(command).await, &command.join(" "));
    }
}
