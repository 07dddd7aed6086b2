//! 4.3 and 4.5: rows without a workspace, rows of a workspace that is not there, and several default workspaces.

use kongferry_harness::lab;
use serde_json::{Value, json};

use crate::migrated::{Migrated, refused};
use crate::row_builder::{KongKeyspace, id};

const REQUESTED: &[&str] = &["--include-table", "oauth2_authorization_codes"];

/// Tables of green whose rows belong to a workspace.
async fn workspaceable(line: &str) -> Vec<String> {
    let green = lab().fresh_green(line).await.expect("green");
    let sql = "select to_jsonb(table_name) from information_schema.columns where column_name = 'ws_id' and table_schema = 'public'";
    let names = green.json(sql).await.expect("names");
    names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_workspace_is_rejected_in_every_table() {
    let tables = workspaceable("3.3").await;
    assert_eq!(tables.len(), 19, "{tables:?}");
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    for table in &tables {
        blue.put(table, &format!("no workspace {table}"), json!({ "ws_id": null })).await;
    }
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for table in &tables {
        migrated.rejected(table, &id(&format!("no workspace {table}")), "workspace_null", "ws_id");
    }
    assert_eq!(migrated.ran.rejects.len(), tables.len(), "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_a_deleted_workspace_is_rejected_in_every_table() {
    let tables = workspaceable("3.3").await;
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    for table in &tables {
        blue.put(table, &format!("stray {table}"), json!({ "ws_id": id("deleted") })).await;
    }
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for table in &tables {
        // Its parents are of another workspace as well, but the workspace is what explains it.
        migrated.rejected(table, &id(&format!("stray {table}")), "workspace_unknown", "ws_id");
    }
    assert_eq!(migrated.ran.rejects.len(), tables.len(), "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_row_without_a_workspace_are_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    let consumer = blue.put("consumers", "nowhere", json!({ "ws_id": null })).await;
    let key = blue.put("keyauth_credentials", "key", json!({ "consumer_id": consumer })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    migrated.rejected_for("keyauth_credentials", &key, "consumer_id", &consumer);
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_of_a_rejected_workspace_are_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    let workspace = blue.put("workspaces", "half", json!({ "name": null })).await;
    let consumer = blue.put("consumers", "in half", json!({ "ws_id": workspace })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    migrated.rejected("workspaces", &workspace, "incomplete_row", "name");
    migrated.rejected_for("consumers", &consumer, "ws_id", &workspace);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_default_workspaces_stop_the_run() {
    let blue = KongKeyspace::new("3.3").await;
    let second = blue.put("workspaces", "second", json!({ "name": "default" })).await;
    blue.put("consumers", "of the second", json!({ "ws_id": second })).await;
    let refusal =
        refused(&blue, "3.3", &["--accept-rejects"], "blue has 2 workspaces named \"default\"").await;
    let problem = refusal["problem"].as_str().unwrap_or_default();
    assert!(problem.contains(&blue.ws) && problem.contains(&second), "both are named: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_without_a_default_workspace_stops_the_run() {
    let blue = KongKeyspace::new("3.3").await;
    blue.put("workspaces", "default workspace", json!({ "name": "renamed" })).await;
    refused(&blue, "3.3", &["--accept-rejects"], "blue has no workspace named \"default\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workspaces_keep_their_ids_and_there_is_one_default() {
    let blue = KongKeyspace::new("2.8").await;
    let other = blue.workspace("other").await;
    let migrated = Migrated::new(&blue, "2.8").await;
    let found: Vec<(&Value, &Value)> =
        migrated.rows("workspaces").iter().map(|row| (&row["id"], &row["name"])).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.contains(&(&json!(blue.ws), &json!("default")))
            && found.contains(&(&json!(other), &json!("other")))
    );
}
