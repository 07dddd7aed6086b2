//! One id in two tables: a client of the Admin API may choose ids, and Kong lets it give a service and a route the same.
//! Kong's table of tags holds one row per id, so its triggers let the two share one.

use kongferry_harness::postgres::Database;
use kongferry_harness::{Keyspace, fill, lab};
use serde_json::{Value, json};

use super::databases::WORKSPACE;
use super::support::{kongferry, migrate_arguments};

const SHARED: &str = "00000000-0000-4000-8000-00000000517e";

/// Gives a consumer and a credential of blue the same id, and tags of their own; and blue an id of its own, as Kong does.
async fn write_them(blue: &Keyspace, workspace: &str) {
    let cluster = json!({ "key": "cluster_id", "value": "6a5a2f7e-4f9e-4b7e-9d1c-0c1d8b0a4c11" });
    blue.write_row("parameters", &cluster).await.expect("a parameter");
    let consumer = json!({
        "id": SHARED, "ws_id": workspace, "username": format!("{workspace}:twin"), "tags": ["of-consumer"],
    });
    blue.write_row("consumers", &consumer).await.expect("a consumer");
    let key = json!({
        "id": SHARED, "ws_id": workspace, "consumer_id": SHARED, "key": format!("{workspace}:twins-key"),
        "tags": ["of-key"],
    });
    blue.write_row("keyauth_credentials", &key).await.expect("a key");
}

/// Migrates them, and checks what the triggers' table says about the id.
async fn moves(blue: &Keyspace, green: &Database, code: i32) -> Vec<Value> {
    let arguments = migrate_arguments(blue, green, &["--accept-rejects"]);
    kongferry(&arguments).await.expect_code(code);
    let verify = ["verify", "--blue", &blue.url(), "--green", green.url(), "--format", "json"];
    let proof = kongferry(&verify).await.expect_code(0).json();
    assert_eq!((&proof["clean"], &proof["findings"]), (&json!(true), &json!(0)), "{proof}");
    let tags = green.rows("tags").await.expect("tags");
    tags.into_iter().filter(|row| row["entity_id"] == SHARED).collect()
}

/// The row that triggers leave: the name of the one that came first, the tags of the one that came last.
fn one_row() -> Vec<Value> {
    vec![json!({ "entity_id": SHARED, "entity_name": "consumers", "tags": ["of-key"] })]
}

#[tokio::test(flavor = "multi_thread")]
async fn entities_with_the_same_id_share_a_tags_row() {
    let blue = super::databases::small_blue("3.3").await;
    write_them(&blue, WORKSPACE).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    assert_eq!(moves(&blue, &green, 0).await, one_row());
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_load_leaves_the_same_tags_row() {
    let blue = lab().fresh_keyspace("3.3").await.expect("blue");
    let fixture = kongferry_harness::fixture::Fixture::shipped("3.3").expect("a fixture");
    for row in &fixture.blue["schema_meta"] {
        blue.write_recorded("schema_meta", row, Default::default()).await.expect("a row");
    }
    blue.write_row("workspaces", &json!({ "id": WORKSPACE, "name": "default" })).await.expect("a workspace");
    fill::fill(&blue, WORKSPACE.parse().expect("an id"), 5_200).await.expect("filled");
    write_them(&blue, WORKSPACE).await;
    let green = lab().fresh_green("3.3").await.expect("green");
    assert_eq!(moves(&blue, &green, 0).await, one_row());
}
