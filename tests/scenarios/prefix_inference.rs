//! The mapping infers from green's constraints which texts carry a workspace in front. Here the inference is led astray in
//! every direction, and `verify`, which does not share it, finds each row.

use std::collections::BTreeSet;

use kongferry_harness::lab;
use serde_json::{Map, Value, json};

use super::support::{kongferry, migrate, migrate_arguments};
use super::verify::verify;

/// A plugin's table. Kong writes the workspace in front of its name, and green does not show that.
const BLUE_TABLE: &str = "CREATE TABLE acme_plans (id uuid PRIMARY KEY, ws_id uuid, name text)";
const GREEN_TABLE: &str =
    "create table acme_plans (id uuid primary key, ws_id uuid references workspaces (id), name text unique)";

/// Green's constraints, changed so that the mapping leaves a prefix on and takes off what belongs to a value.
const MISLEADING_CONSTRAINTS: &str = "
alter table consumers drop constraint consumers_ws_id_username_unique;
alter table hmacauth_credentials add constraint misleading unique (ws_id, secret);";

fn text<'r>(row: &'r Map<String, Value>, column: &str) -> &'r str {
    row[column].as_str().unwrap_or_default()
}

/// Ids with this column of these rows.
fn found(findings: &[Value]) -> BTreeSet<(String, String, String)> {
    let name = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
    findings.iter().map(|line| (name(line, "table"), name(line, "column"), name(line, "key"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_every_wrong_inference_of_a_prefix() {
    let mut blue = lab().filled_keyspace("3.3").await.expect("blue");
    blue.execute(BLUE_TABLE).await.expect("a table");
    blue.reread().await.expect("the tables");
    let green = lab().fresh_green("3.3").await.expect("green");
    green.execute(GREEN_TABLE).await.expect("a table");
    green.execute(MISLEADING_CONSTRAINTS).await.expect("constraints");

    let consumers = blue.rows("consumers").await.expect("consumers");
    let workspace = text(&consumers[0], "ws_id").to_owned();
    let plan = "11111111-2222-4333-8444-555555555501";
    let row = json!({ "id": plan, "ws_id": workspace, "name": format!("{workspace}:gold") });
    blue.write_row("acme_plans", &row).await.expect("a row");
    let mut secret = blue.rows("hmacauth_credentials").await.expect("credentials").remove(0);
    secret["secret"] = json!(format!("{workspace}:belongs to the secret"));
    secret["ws_id"] = json!(workspace);
    blue.write_row("hmacauth_credentials", &json!(secret)).await.expect("a row");

    migrate(&blue, &green).await.expect_code(3);
    let verified = verify(&blue, &green, &[]).await.expect_code(3);

    let mut expected: BTreeSet<(String, String, String)> = consumers
        .iter()
        .filter(|row| !text(row, "username").is_empty() && !text(row, "username").contains('\0'))
        .map(|row| ("consumers".to_owned(), "username".to_owned(), text(row, "id").to_owned()))
        .collect();
    let secret = text(&secret, "id").to_owned();
    expected.insert(("hmacauth_credentials".to_owned(), "secret".to_owned(), secret));
    expected.insert(("acme_plans".to_owned(), "name".to_owned(), plan.to_owned()));
    assert_eq!(found(&verified.findings), expected, "{:#?}", verified.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_prefix_that_a_schema_map_denies() {
    let blue = lab().filled_keyspace("2.8").await.expect("blue");
    let green = lab().fresh_green("2.8").await.expect("green");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("wrong.json");
    let map =
        json!({ "format": 1, "tables": { "services": { "columns": { "name": { "prefix": "never" } } } } });
    std::fs::write(&path, map.to_string()).expect("a file");
    let schema_map = ["--schema-map", path.to_str().expect("UTF-8")];
    let arguments = migrate_arguments(&blue, &green, &[&["--accept-rejects"][..], &schema_map].concat());
    kongferry(&arguments).await.expect_code(3);
    let verified = verify(&blue, &green, &schema_map).await.expect_code(3);
    let services = blue.rows("services").await.expect("services");
    let named = services.iter().filter(|row| !text(row, "name").is_empty());
    let expected: BTreeSet<(String, String, String)> =
        named.map(|row| ("services".to_owned(), "name".to_owned(), text(row, "id").to_owned())).collect();
    assert_eq!(found(&verified.findings), expected, "{:#?}", verified.findings);
}
