//! The rules that Enterprise's real tables need (docs/kong-data-model.md, 8), one by one: expiry by the cells that Kong
//! needs, the partition, the keyring's active key, tables without a primary key, types without a rule, fixed keys.

use kongferry_harness::keyspace::Keyspace;
use kongferry_harness::lab;
use kongferry_harness::postgres::Database;
use serde_json::{Value, json};

use super::enterprise::{rows, verified};
use super::support::{Ran, kongferry, migrate_arguments};

const LINE: &str = "enterprise-3.3";

fn id(number: u32) -> String {
    format!("e27e2000-0000-4000-8000-{number:012}")
}

/// Both sides as Enterprise's bootstrap leaves them.
async fn sides() -> (Keyspace, Database) {
    let blue = lab().bootstrapped_keyspace(LINE, Some("a first admin")).await.expect("a keyspace");
    (blue, lab().fresh_green(LINE).await.expect("green"))
}

/// Migrates without a flag.
async fn migrated(blue: &Keyspace, green: &Database) -> Ran {
    kongferry(&migrate_arguments(blue, green, &[])).await.expect_code(0)
}

async fn workspace(blue: &Keyspace) -> String {
    let found = blue.rows("workspaces").await.expect("rows");
    found[0]["id"].as_str().expect("an id").to_owned()
}

/// Seconds until each of these rows of green expires, by id.
async fn seconds_left(green: &Database, table: &str, id: &str) -> Value {
    let sql = format!(
        "select coalesce(to_jsonb(extract(epoch from ttl - now())), 'null'::jsonb) from {table} where id = '{id}'"
    );
    green.json(&sql).await.expect("rows").first().cloned().expect("the row")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_expires_with_the_cells_that_kong_needs() {
    let (blue, green) = sides().await;
    let ws = workspace(&blue).await;
    let consumer = json!({ "id": id(1), "ws_id": ws, "username": format!("{ws}:c"), "username_lower": format!("{ws}:c"), "type": 0 });
    blue.write_row("consumers", &consumer).await.expect("a consumer");
    let key = |number: u32| json!({ "id": id(number), "ws_id": ws, "consumer_id": id(1), "key": format!("{ws}:key {number}"), "created_at": 1_700_000_000_000_i64 });
    // Kong writes key_ident by a second statement, which takes the table's default of 14 days or none.
    let ident = async |number: u32, ttl: i32| {
        let cql = format!(
            "UPDATE keyauth_enc_credentials USING TTL {ttl} SET key_ident = 'abcde' WHERE id = {}",
            id(number)
        );
        blue.execute(&cql).await.expect("a second statement");
    };
    blue.write_row_with_ttl("keyauth_enc_credentials", &key(10), 3600).await.expect("of an hour");
    ident(10, 0).await;
    // Without a TTL it has the table's default.
    let cql = format!(
        "INSERT INTO keyauth_enc_credentials (id, ws_id, consumer_id, key, key_ident) VALUES ({}, {ws}, {}, '{ws}:key 11', 'abcde')",
        id(11),
        id(1)
    );
    blue.execute(&cql).await.expect("of 14 days");
    blue.write_row_with_ttl("keyauth_enc_credentials", &key(12), 1).await.expect("of a second");
    ident(12, 0).await;
    // The tag of a permanent key is temporary, and the permanent tag of another one outlives it.
    for (number, ttl, tag_ttl) in [(20, 0, 3600), (21, 3600, 0)] {
        let row = json!({ "id": id(number), "ws_id": ws, "consumer_id": id(1), "key": format!("{ws}:plain {number}"), "created_at": null });
        blue.write_row_with_ttl("keyauth_credentials", &row, ttl).await.expect("a key");
        let cql = format!(
            "UPDATE keyauth_credentials USING TTL {tag_ttl} SET created_at = 1700000000000 WHERE id = {}",
            id(number)
        );
        blue.execute(&cql).await.expect("another expiry");
    }
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    let ran = migrated(&blue, &green).await;
    let left = async |table: &str, number: u32| seconds_left(&green, table, &id(number)).await;
    let about = |found: Value, wanted: f64| {
        let found: f64 = found.to_string().parse().expect("seconds");
        assert!((wanted - 120.0..=wanted).contains(&found), "{found} is not about {wanted}");
    };
    about(left("keyauth_enc_credentials", 10).await, 3600.0);
    about(left("keyauth_enc_credentials", 11).await, 1_209_600.0);
    about(left("keyauth_credentials", 21).await, 3600.0);
    assert_eq!(left("keyauth_credentials", 20).await, Value::Null, "a permanent key with a temporary cell");
    let counts = ran.table("keyauth_enc_credentials");
    assert_eq!(
        (&counts["expired"], &counts["rejected"]),
        (&json!(1), &json!(0)),
        "what is left of an expired key: {counts}"
    );
    let notes = ran.json()["notes"].to_string();
    assert!(notes.contains("default_time_to_live"), "{notes}");
    let report = verified(&blue, &green).await;
    let table = report["tables"]
        .as_array()
        .expect("tables")
        .iter()
        .find(|table| table["table"] == "keyauth_enc_credentials");
    assert_eq!(table.expect("the table")["expired"], 1, "{report:#}");

    // Verify has its own statement of the rule: the longest expiry of the row is a difference.
    green
        .execute("update keyauth_enc_credentials set ttl = now() + interval '14 days'")
        .await
        .expect("changed");
    let arguments = ["verify", "--blue", &blue.url(), "--green", green.url()];
    let ran = kongferry(&arguments).await.expect_code(3);
    assert!(ran.stdout.contains("wrong_expiry"), "{ran:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_partition_in_front_of_a_key_needs_no_map() {
    let (blue, green) = sides().await;
    let license = |partition: &str, number: u32| json!({ "partition": partition, "id": id(number), "payload": format!("license {number}") });
    blue.write_row("licenses", &license("licenses", 1)).await.expect("a license");
    blue.write_row("licenses", &license("elsewhere", 2)).await.expect("a row that Kong does not read");
    let ran = migrated(&blue, &green).await;
    let found = rows(&green, "licenses").await;
    assert_eq!((found.len(), &found[0]["payload"]), (1, &json!("license 1")));
    let counts = ran.table("licenses");
    assert_eq!((&counts["source"], &counts["not_copied"]), (&json!(2), &json!(1)), "{counts}");
    assert!(counts["reason"].to_string().contains("a partition that Kong does not read"), "{counts}");
    verified(&blue, &green).await;
}

/// A plugin that names its partition otherwise is refused with a map, and the map helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_rows_in_another_partition_only_is_refused_with_a_map_that_helps() {
    let (mut blue, green) = sides().await;
    let cql = "CREATE TABLE acme_plans (partition text, id uuid, name text, PRIMARY KEY (partition, id))";
    blue.execute(cql).await.expect("a table");
    blue.reread().await.expect("the tables");
    green.execute("create table acme_plans (id uuid primary key, name text)").await.expect("a table");
    let row = json!({ "partition": "plans", "id": id(1), "name": "gold" });
    blue.write_row("acme_plans", &row).await.expect("a row");
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    let at = ran.stderr.find("{\"format\": 1").unwrap_or_else(|| panic!("no map: {ran:#?}"));
    let mut map = serde_json::Deserializer::from_str(&ran.stderr[at..]).into_iter::<Value>();
    let map = map.next().expect("a map").unwrap_or_else(|error| panic!("{error}: {ran:#?}"));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), map.to_string()).expect("written");
    let path = file.path().display().to_string();
    kongferry(&migrate_arguments(&blue, &green, &["--schema-map", &path])).await.expect_code(0);
    assert_eq!(rows(&green, "acme_plans").await[0]["name"], "gold");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_active_key_of_the_keyring_is_active_on_green_run_after_run() {
    let (blue, green) = sides().await;
    for name in ["old0old0", "new0new0"] {
        let row = json!({ "id": name, "state": "alive", "created_at": 1_700_000_000_000_i64 });
        blue.write_row("keyring_meta", &row).await.expect("a key");
    }
    let states = async || -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let mut found: Vec<_> = rows(&green, "keyring_meta")
            .await
            .iter()
            .map(|row| (text(&row["id"]), text(&row["state"])))
            .collect();
        found.sort();
        found
    };
    let expected = |new: &str, old: &str| {
        vec![("new0new0".to_owned(), new.to_owned()), ("old0old0".to_owned(), old.to_owned())]
    };
    let activate = async |name: &str| {
        blue.write_row("keyring_meta_active", &json!({ "active": "active", "id": name }))
            .await
            .expect("a row");
    };
    activate("old0old0").await;
    migrated(&blue, &green).await;
    assert_eq!(states().await, expected("alive", "active"));
    activate("new0new0").await;
    let ran = migrated(&blue, &green).await;
    assert_eq!(ran.json()["changes"]["updated"], 2, "{ran:#?}");
    assert_eq!(states().await, expected("active", "alive"));
    verified(&blue, &green).await;
    green.execute("update keyring_meta set state = 'alive'").await.expect("changed");
    let arguments = ["verify", "--blue", &blue.url(), "--green", green.url()];
    let ran = kongferry(&arguments).await.expect_code(3);
    assert!(ran.stdout.contains("keyring_meta"), "{ran:#?}");
}

/// Kong's first start draws a key of the keyring and counts; nothing else of green is written.
#[tokio::test(flavor = "multi_thread")]
async fn a_green_that_kong_has_started_once_is_migrated_like_a_new_one() {
    for blue_has_keyring in [true, false] {
        let (blue, green) = sides().await;
        let ws = green.json("select to_jsonb(id) from workspaces").await.expect("rows")[0].clone();
        green
            .execute("insert into keyring_meta (id, state, created_at) values ('greenkey', 'active', now())")
            .await
            .expect("a key");
        let counter = json!({ "workspace_id": ws, "entity_type": "consumers", "count": 1 });
        green.insert("workspace_entity_counters", &counter).await.expect("a counter");
        let node = json!({ "node_id": id(9), "hostname": "green-1" });
        green.insert("vitals_node_meta", &node).await.expect("a node");
        if blue_has_keyring {
            let key = json!({ "id": "blue0key", "state": "alive", "created_at": 1_700_000_000_000_i64 });
            blue.write_row("keyring_meta", &key).await.expect("a key");
            let active = json!({ "active": "active", "id": "blue0key" });
            blue.write_row("keyring_meta_active", &active).await.expect("the active key");
        }
        for _ in ["first", "second"] {
            migrated(&blue, &green).await;
            let found = rows(&green, "keyring_meta").await;
            let expected = if blue_has_keyring { "blue0key" } else { "greenkey" };
            assert_eq!(
                (found.len(), &found[0]["id"], &found[0]["state"]),
                (1, &json!(expected), &json!("active"))
            );
            verified(&blue, &green).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_a_primary_key_follows_blue_run_after_run() {
    let (blue, green) = sides().await;
    let hook = |number: u32, handler: &str| json!({ "id": id(number), "source": "crud", "event": "consumers", "handler": handler, "config": "{\"url\":\"http:\\/\\/h\"}" });
    for number in 1..=3 {
        blue.write_row("event_hooks", &hook(number, "webhook")).await.expect("a hook");
    }
    migrated(&blue, &green).await;
    blue.write_row("event_hooks", &hook(2, "log")).await.expect("changed");
    blue.write_row("event_hooks", &hook(4, "webhook")).await.expect("added");
    blue.execute(&format!("DELETE FROM event_hooks WHERE id = {}", id(3))).await.expect("deleted");
    let changes = migrated(&blue, &green).await.json()["changes"].clone();
    let counted = ["inserted", "updated", "deleted"].map(|kind| changes[kind].as_u64());
    assert_eq!(counted, [Some(1); 3], "{changes}");
    let mut found: Vec<String> = rows(&green, "event_hooks")
        .await
        .iter()
        .map(|row| format!("{} {}", row["id"], row["handler"]))
        .collect();
    found.sort();
    let wanted = [(1, "webhook"), (2, "log"), (4, "webhook")];
    assert_eq!(found, wanted.map(|(number, handler)| format!("\"{}\" \"{handler}\"", id(number))));
    let changes = migrated(&blue, &green).await.json()["changes"].clone();
    assert_eq!(
        ["inserted", "updated", "deleted"].map(|kind| changes[kind].as_u64()),
        [Some(0); 3],
        "{changes}"
    );
    verified(&blue, &green).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn types_without_a_rule_stop_only_where_the_table_has_rows() {
    let (mut blue, green) = sides().await;
    blue.execute("CREATE TABLE acme_sizes (id uuid PRIMARY KEY, size varint)").await.expect("a table");
    blue.reread().await.expect("the tables");
    green.execute("create table acme_sizes (id uuid primary key, size bigint)").await.expect("a table");
    migrated(&blue, &green).await;
    blue.execute(&format!("INSERT INTO acme_sizes (id, size) VALUES ({}, 1)", id(1))).await.expect("a row");
    let ran = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    assert!(ran.stderr.contains("acme_sizes.size is varint on blue and bigint on green"), "{ran:#?}");
}

/// A row that both bootstraps make under one key takes blue's values, also where only a baseline knows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_the_baseline_with_a_key_of_blues_takes_blues_values() {
    let (blue, green) = sides().await;
    let made = |name: &str| json!({ "id": id(7), "name": name });
    blue.write_row("groups", &made("blue's")).await.expect("a group");
    green.insert("groups", &made("green's")).await.expect("a group");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("baseline.json").display().to_string();
    let (from, to) = (blue.url(), green.url().to_owned());
    kongferry(&["inspect", "--blue", &from, "--green", &to, "--save-baseline", &path]).await.expect_code(0);
    let without = kongferry(&migrate_arguments(&blue, &green, &[])).await.expect_code(4);
    assert!(without.stdout.contains(&id(7)), "{without:#?}");
    kongferry(&migrate_arguments(&blue, &green, &["--baseline", &path])).await.expect_code(0);
    let found = rows(&green, "groups").await;
    assert_eq!((found.len(), &found[0]["name"]), (1, &json!("blue's")));
    verified(&blue, &green).await;
}

/// Counters are carried; those of a deleted workspace are left behind and do not stop the run.
#[tokio::test(flavor = "multi_thread")]
async fn entity_counters_are_copied_but_those_of_deleted_workspaces() {
    let (blue, green) = sides().await;
    let ws = workspace(&blue).await;
    for (workspace, count) in [(ws.as_str(), 7), (id(404).as_str(), 1)] {
        let cql = format!(
            "UPDATE workspace_entity_counters SET count = count + {count} WHERE workspace_id = {workspace} AND entity_type = 'services'"
        );
        blue.execute(&cql).await.expect("counted");
    }
    let ran = migrated(&blue, &green).await;
    let found = rows(&green, "workspace_entity_counters").await;
    assert_eq!((found.len(), &found[0]["count"]), (1, &json!(7)));
    let counts = ran.table("workspace_entity_counters");
    assert_eq!(counts["not_copied"], 1, "{counts}");
    assert!(counts["reason"].to_string().contains("1 rows of deleted workspaces"), "{counts}");
    verified(&blue, &green).await;
}
