//! 4.1 and 4.2: references to rows that are not there, and to rows of another workspace. Nothing is ever set to null.

use std::collections::BTreeSet;

use kongferry_harness::lab;
use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, id};

/// Every reference of Kong 3.3 and whether the workspace is a part of it.
const REFERENCES: &[(&str, &str, bool)] = &[
    ("acls", "consumer_id", true),
    ("basicauth_credentials", "consumer_id", true),
    ("hmacauth_credentials", "consumer_id", true),
    ("jwt_secrets", "consumer_id", true),
    ("keyauth_credentials", "consumer_id", true),
    ("keys", "set_id", false),
    ("oauth2_authorization_codes", "credential_id", true),
    ("oauth2_authorization_codes", "plugin_id", false),
    ("oauth2_authorization_codes", "service_id", true),
    ("oauth2_credentials", "consumer_id", true),
    ("oauth2_tokens", "credential_id", true),
    ("oauth2_tokens", "service_id", true),
    ("plugins", "consumer_id", true),
    ("plugins", "route_id", true),
    ("plugins", "service_id", true),
    ("routes", "service_id", true),
    ("services", "client_certificate_id", true),
    ("snis", "certificate_id", true),
    ("targets", "upstream_id", true),
    ("upstreams", "client_certificate_id", false),
];

/// The table that a column refers to.
fn parent_of(column: &str) -> &'static str {
    match column {
        "certificate_id" | "client_certificate_id" => "certificates",
        "consumer_id" => "consumers",
        "credential_id" => "oauth2_credentials",
        "plugin_id" => "plugins",
        "route_id" => "routes",
        "service_id" => "services",
        "set_id" => "key_sets",
        "upstream_id" => "upstreams",
        other => panic!("{other} refers to nothing"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_references_is_that_of_kong() {
    let green = lab().fresh_green("3.3").await.expect("green");
    let sql = "select jsonb_build_array(c.conrelid::regclass::text, a.attname, array_length(c.conkey, 1) = 2) \
               from pg_constraint c join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1] \
               where c.contype = 'f' and a.attname <> 'ws_id'";
    let found: BTreeSet<String> = green.json(sql).await.expect("keys").iter().map(Value::to_string).collect();
    assert_eq!(found, REFERENCES.iter().map(|one| json!(one).to_string()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangling_reference_is_rejected_in_every_column() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    for (table, column, _) in REFERENCES {
        let name = format!("{table} {column}");
        blue.put(table, &name, json!({ *column: id("missing") })).await;
    }
    let migrated = Migrated::with(&blue, "3.3", &["--include-table", "oauth2_authorization_codes"]).await;
    for (table, column, _) in REFERENCES {
        let line = migrated.rejected(table, &id(&format!("{table} {column}")), "dangling_reference", column);
        assert_eq!(line["row"][column], id("missing"), "the row is shown as blue holds it: {line:#}");
    }
    assert_eq!(migrated.ran.rejects.len(), REFERENCES.len(), "and nothing else: {:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_across_workspaces_is_rejected_where_the_key_includes_the_workspace() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let other = blue.workspace("other").await;
    let theirs = |table: &str| id(&format!("their {table}"));
    for table in ["certificates", "upstreams", "consumers", "services"] {
        blue.put(table, &format!("their {table}"), json!({ "ws_id": other })).await;
    }
    let their_consumer = json!({ "ws_id": other, "consumer_id": theirs("consumers") });
    blue.put("oauth2_credentials", "their oauth2_credentials", their_consumer).await;
    for (table, column, _) in REFERENCES {
        // Every other reference of the row stays in its own workspace.
        let mut row = json!({ "ws_id": other });
        for (_, own, _) in REFERENCES.iter().filter(|(of, ..)| of == table) {
            if ["oauth2_authorization_codes", "oauth2_tokens"].contains(table) && *own == "credential_id" {
                row["credential_id"] = theirs("oauth2_credentials").into();
            }
        }
        row[*column] = id(parent_of(column)).into();
        blue.put(table, &format!("{table} {column}"), row).await;
    }
    let migrated = Migrated::with(&blue, "3.3", &["--include-table", "oauth2_authorization_codes"]).await;
    for (table, column, with_workspace) in REFERENCES {
        let key = id(&format!("{table} {column}"));
        if *with_workspace {
            migrated.rejected(table, &key, "cross_workspace_reference", column);
        } else {
            assert_eq!(
                migrated.row(table, &key)[column],
                id(parent_of(column)),
                "{table}.{column} may cross workspaces"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_rejected_row_are_rejected_with_its_key_as_the_cause() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let broken = json!({ "tags": ["nul\0"] });
    for parent in ["certificates", "upstreams", "key_sets", "consumers"] {
        blue.put(parent, &format!("broken {parent}"), broken.clone()).await;
    }
    let (certificate, consumer) = (id("broken certificates"), id("broken consumers"));
    let children: Vec<(&str, String, &str, String)> = vec![
        (
            "snis",
            blue.put("snis", "sni", json!({ "certificate_id": certificate })).await,
            "certificate_id",
            certificate.clone(),
        ),
        (
            "services",
            blue.put("services", "service", json!({ "client_certificate_id": certificate })).await,
            "client_certificate_id",
            certificate.clone(),
        ),
        (
            "upstreams",
            blue.put("upstreams", "upstream", json!({ "client_certificate_id": certificate })).await,
            "client_certificate_id",
            certificate.clone(),
        ),
        (
            "targets",
            blue.put("targets", "target", json!({ "upstream_id": id("broken upstreams") })).await,
            "upstream_id",
            id("broken upstreams"),
        ),
        (
            "keys",
            blue.put("keys", "key", json!({ "set_id": id("broken key_sets") })).await,
            "set_id",
            id("broken key_sets"),
        ),
        (
            "keyauth_credentials",
            blue.put("keyauth_credentials", "keyauth", json!({ "consumer_id": consumer })).await,
            "consumer_id",
            consumer.clone(),
        ),
        (
            "acls",
            blue.put("acls", "acl", json!({ "consumer_id": consumer })).await,
            "consumer_id",
            consumer.clone(),
        ),
        (
            "plugins",
            blue.put("plugins", "of consumer", json!({ "consumer_id": consumer })).await,
            "consumer_id",
            consumer.clone(),
        ),
        (
            "oauth2_credentials",
            blue.put("oauth2_credentials", "app", json!({ "consumer_id": consumer })).await,
            "consumer_id",
            consumer.clone(),
        ),
        // Grandchildren name their parent, not the root.
        (
            "oauth2_tokens",
            blue.put("oauth2_tokens", "token", json!({ "credential_id": id("app") })).await,
            "credential_id",
            id("app"),
        ),
        (
            "routes",
            blue.put("routes", "route", json!({ "service_id": id("service") })).await,
            "service_id",
            id("service"),
        ),
        (
            "plugins",
            blue.put("plugins", "of route", json!({ "route_id": id("route") })).await,
            "route_id",
            id("route"),
        ),
        (
            "plugins",
            blue.put("plugins", "of service", json!({ "service_id": id("service") })).await,
            "service_id",
            id("service"),
        ),
        (
            "targets",
            blue.put("targets", "target two", json!({ "upstream_id": id("upstream") })).await,
            "upstream_id",
            id("upstream"),
        ),
    ];
    let migrated = Migrated::new(&blue, "3.3").await;
    for parent in ["certificates", "upstreams", "key_sets", "consumers"] {
        migrated.rejected(parent, &id(&format!("broken {parent}")), "text_nul", "tags");
    }
    for (table, key, column, parent) in &children {
        migrated.rejected_for(table, key, column, parent);
    }
    assert_eq!(
        migrated.ran.rejects.len(),
        children.len() + 4,
        "and nothing else: {:#?}",
        migrated.ran.rejects
    );
    assert!(
        migrated.rows("plugins").iter().all(|plugin| plugin["id"] == id("plugins")),
        "no plugin became global"
    );
}
