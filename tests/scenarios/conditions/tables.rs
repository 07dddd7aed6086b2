//! 4.15, 4.16, 4.21 and 4.23: columns, tables and partitions that green does not know.

use kongferry_harness::lab;
use serde_json::{Value, json};

use crate::migrated::{Migrated, refused, refused_into};
use crate::row_builder::{KongKeyspace, id};

#[tokio::test(flavor = "multi_thread")]
async fn known_legacy_columns_are_dropped_with_their_values() {
    let blue = KongKeyspace::new("3.3").await;
    blue.execute("ALTER TABLE plugins ADD api_id uuid").await.expect("a column");
    let blue = blue.reread().await;
    let plugin = blue.put("plugins", "old", json!({ "run_on": "first", "api_id": id("an api") })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    let row = migrated.row("plugins", &plugin);
    assert!(row.get("api_id").is_none() && row.get("run_on").is_none(), "{row:#}");
    assert_eq!(migrated.ran.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_column_stops_the_run_only_where_it_holds_a_value() {
    let blue = KongKeyspace::new("3.3").await;
    blue.execute("ALTER TABLE consumers ADD \"Cost Center\" text").await.expect("a column");
    let blue = blue.reread().await;
    let consumer = blue.put("consumers", "ann", json!({})).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    migrated.row("consumers", &consumer);

    blue.put("consumers", "ann", json!({ "Cost Center": "42" })).await;
    let refusal = refused(&blue, "3.3", &["--accept-rejects"], "consumers.Cost Center holds values").await;
    assert!(refusal["details"].to_string().contains(&consumer), "the row is named: {refusal:#}");

    // The way out that the refusal names.
    let map = tempfile::NamedTempFile::new().expect("a file");
    let remedy = refusal["remedy"].as_str().expect("a remedy");
    let json = remedy.split_once(": ").expect("a map").1;
    std::fs::write(map.path(), json).expect("written");
    let migrated = Migrated::with(&blue, "3.3", &["--schema-map", &map.path().display().to_string()]).await;
    migrated.row("consumers", &consumer);
}

#[tokio::test(flavor = "multi_thread")]
async fn legacy_tables_are_not_copied_but_counted() {
    let blue = KongKeyspace::new("3.3").await;
    let dead = ["apis", "cluster_ca", "nodes", "schema_migrations", "vaults", "vaults_beta"];
    for table in dead {
        blue.execute(&format!("CREATE TABLE {table} (id text PRIMARY KEY)")).await.expect("a table");
        blue.execute(&format!("INSERT INTO {table} (id) VALUES ('a')")).await.expect("a row");
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for table in dead {
        assert_eq!((migrated.count(table, "source"), migrated.count(table, "not_copied")), (1, 1), "{table}");
        let reason = migrated.ran.table(table)["reason"].as_str().unwrap_or_default().to_owned();
        assert!(reason.contains("Kong"), "{table}: {reason}");
    }
    assert_eq!(migrated.ran.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_only_blue_has_stops_the_run_only_where_it_has_rows() {
    let blue = KongKeyspace::new("3.3").await;
    blue.execute("CREATE TABLE quotas (id uuid PRIMARY KEY, name text)").await.expect("a table");
    let migrated = Migrated::new(&blue, "3.3").await;
    assert_eq!((migrated.ran.code, migrated.count("quotas", "source")), (0, 0));

    blue.execute(&format!("INSERT INTO quotas (id, name) VALUES ({}, 'q')", id("quota")))
        .await
        .expect("a row");
    let sentence = "blue's table \"quotas\" holds 1 rows, and green has no such table";
    let refusal = refused(&blue, "3.3", &["--accept-rejects"], sentence).await;
    assert!(
        refusal["remedy"].as_str().is_some_and(|text| text.contains("--skip-table quotas")),
        "{refusal:#}"
    );
    // The map that would decide it is printed, and does.
    let map =
        refusal["details"].as_array().and_then(|lines| lines.first()?.as_str()?.strip_prefix("Schema map: "));
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), map.unwrap_or_else(|| panic!("no map in {refusal:#}"))).expect("written");
    let path = file.path().display().to_string();
    let migrated = Migrated::with(&blue, "3.3", &["--schema-map", &path]).await;
    assert_eq!(migrated.count("quotas", "not_copied"), 1);

    let migrated = Migrated::with(&blue, "3.3", &["--skip-table", "quotas"]).await;
    assert_eq!((migrated.count("quotas", "source"), migrated.count("quotas", "not_copied")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn vaults_of_the_vault_auth_plugin_stop_the_run() {
    let blue = KongKeyspace::new("3.3").await;
    blue.execute(&format!("INSERT INTO vault_auth_vaults (id, name) VALUES ({}, 'v')", id("vault")))
        .await
        .expect("a row");
    refused(&blue, "3.3", &["--accept-rejects"], "\"vault_auth_vaults\" holds 1 rows").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_both_sides_have_is_migrated_without_a_map() {
    let blue = KongKeyspace::new("3.3").await;
    blue.execute("CREATE TABLE quotas (id uuid PRIMARY KEY, name text, tags set<text>)")
        .await
        .expect("a table");
    let insert = format!("INSERT INTO quotas (id, name, tags) VALUES ({}, 'q', {{'b', 'a'}})", id("quota"));
    blue.execute(&insert).await.expect("a row");
    let green = lab().fresh_green("3.3").await.expect("green");
    green
        .execute("create table quotas (id uuid primary key, name text, tags text[])")
        .await
        .expect("a table");
    let migrated = Migrated::into_green(&blue, green, &[]).await;
    assert_eq!(migrated.rows("quotas"), [json!({ "id": id("quota"), "name": "q", "tags": ["a", "b"] })]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_another_partition_is_not_migrated() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for table in ["ca_certificates", "certificates", "routes", "services", "snis"] {
        let name = format!("elsewhere {table}");
        expected.push((table, blue.put(table, &name, json!({ "partition": "elsewhere" })).await));
        // Broken rows there are ignored as well.
        let broken = json!({ "partition": "elsewhere", "tags": ["nul\0"], "ws_id": null });
        if table != "ca_certificates" {
            expected.push((table, blue.put(table, &format!("broken {table}"), broken).await));
        }
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, row) in &expected {
        assert!(
            migrated.find(table, row).is_none() && migrated.ran.reject(table, row).is_none(),
            "{table} {row}"
        );
        let report = migrated.ran.table(table);
        assert!(report["reason"].as_str().is_some_and(|text| text.contains("partition")), "{report:#}");
    }
    assert_eq!((migrated.count("services", "source"), migrated.count("services", "not_copied")), (3, 2));
    assert_eq!(migrated.ran.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_row_in_another_partition_is_dangling() {
    let blue = KongKeyspace::new("3.3").await;
    let service = blue.put("services", "elsewhere", json!({ "partition": "elsewhere" })).await;
    let route = blue.put("routes", "route", json!({ "service_id": service })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    migrated.rejected("routes", &route, "dangling_reference", "service_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_installed_on_one_side_only_is_reported() {
    let blue = KongKeyspace::new("3.3").await;
    for (subsystem, migration) in [("quotas", "000_base_quotas")] {
        let cql = format!(
            "INSERT INTO schema_meta (key, subsystem, executed, last_executed) VALUES ('schema_meta', '{subsystem}', {{'{migration}'}}, '{migration}')"
        );
        blue.execute(&cql).await.expect("a subsystem");
    }
    let green = lab().fresh_green("3.3").await.expect("green");
    let only_green = "insert into schema_meta (key, subsystem, executed, last_executed) values ('schema_meta', 'meters', '{000_base_meters}', '000_base_meters')";
    green.execute(only_green).await.expect("a subsystem");
    // 4.17: what the plugin needs is its own concern; its configuration goes as it is.
    let config = "{\"whitelist\":[\"10.0.0.1\"],\"of an older version\":null}";
    let plugin = blue.put("plugins", "quotas", json!({ "config": config })).await;
    let migrated = Migrated::into_green(&blue, green, &[]).await;
    let warnings = migrated.ran.json()["warnings"].to_string();
    assert!(warnings.contains("plugins with tables exist on blue only: quotas"), "{warnings}");
    assert!(warnings.contains("plugins with tables exist on green only: meters"), "{warnings}");
    assert_eq!(
        migrated.row("plugins", &plugin)["config"],
        serde_json::from_str::<Value>(config).expect("JSON")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_plugin_in_two_versions_stops_the_run() {
    let blue = KongKeyspace::new("3.3").await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let more = "update schema_meta set executed = executed || '{099_newer}', last_executed = '099_newer' where subsystem = 'acme'";
    green.execute(more).await.expect("a migration");
    refused_into(&blue, &green, &["--accept-rejects"], "the migrations of \"acme\" differ").await;
}
