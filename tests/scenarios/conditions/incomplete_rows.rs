//! 4.9 and 4.10: a null that green refuses, and rows of which only a part is there. Nothing is filled in, but what Kong
//! itself would read for the null.

use kongferry_harness::fixture::Fixture;
use serde_json::json;

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, id};

/// What each table's rows cannot be without (docs/kong-data-model.md, 2); the last member of a pair is reported for it.
const REQUIRED: &[(&str, &str)] = &[
    ("acls", "consumer_id"),
    ("acls", "group"),
    ("acme_storage", "key"),
    ("acme_storage", "value"),
    ("basicauth_credentials", "consumer_id"),
    ("basicauth_credentials", "username"),
    ("basicauth_credentials", "password"),
    ("ca_certificates", "cert"),
    ("certificates", "cert"),
    ("certificates", "key"),
    ("hmacauth_credentials", "consumer_id"),
    ("hmacauth_credentials", "username"),
    ("jwt_secrets", "consumer_id"),
    ("jwt_secrets", "key"),
    ("keyauth_credentials", "consumer_id"),
    ("keyauth_credentials", "key"),
    ("keys", "kid"),
    ("oauth2_authorization_codes", "credential_id"),
    ("oauth2_authorization_codes", "code"),
    ("oauth2_credentials", "consumer_id"),
    ("oauth2_credentials", "client_id"),
    ("oauth2_credentials", "name"),
    ("oauth2_tokens", "credential_id"),
    ("oauth2_tokens", "access_token"),
    ("parameters", "value"),
    ("plugins", "name"),
    ("plugins", "config"),
    ("routes", "protocols"),
    ("services", "protocol"),
    ("services", "host"),
    ("services", "port"),
    ("sessions", "session_id"),
    ("sm_vaults", "prefix"),
    ("sm_vaults", "name"),
    ("sm_vaults", "config"),
    ("snis", "name"),
    ("snis", "certificate_id"),
    ("targets", "upstream_id"),
    ("targets", "target"),
    ("targets", "weight"),
    ("upstreams", "name"),
    ("upstreams", "slots"),
    ("workspaces", "name"),
];

const REQUESTED: &[&str] = &["--include-table", "oauth2_authorization_codes", "--include-table", "sessions"];

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_required_column_is_rejected_as_incomplete() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (table, column) in REQUIRED {
        let row = blue.put(table, &format!("{table} without {column}"), json!({ *column: null })).await;
        expected.push((*table, row, *column));
    }
    let neither = blue.put("consumers", "neither", json!({ "username": null })).await;
    let by_custom_id =
        blue.put("consumers", "by custom_id", json!({ "username": null, "custom_id": blue.own("c") })).await;
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for (table, row, column) in &expected {
        migrated.rejected(table, row, "incomplete_row", column);
    }
    migrated.rejected("consumers", &neither, "incomplete_row", "username|custom_id");
    migrated.row("consumers", &by_custom_id);
    assert_eq!(migrated.ran.rejects.len(), expected.len() + 1, "{:#?}", migrated.ran.rejects);
}

/// What Kong's own migrations and races leave: a key and one cell, never an INSERT of the row.
#[tokio::test(flavor = "multi_thread")]
async fn cells_without_an_inserted_row_are_rejected_as_incomplete_in_every_table() {
    let blue = KongKeyspace::new("3.3").await;
    let ghosts = [
        ("acls", "tags = {'a'}"),
        ("basicauth_credentials", "password = 'p'"),
        ("ca_certificates", "tags = {'a'}"),
        ("certificates", "tags = {'a'}"),
        ("consumers", "tags = {'a'}"),
        ("hmacauth_credentials", "secret = 's'"),
        ("jwt_secrets", "secret = 's'"),
        ("keyauth_credentials", "tags = {'a'}"),
        ("keys", "jwk = '{}'"),
        ("oauth2_credentials", "hash_secret = false"),
        ("oauth2_tokens", "scope = 's'"),
        ("plugins", "cache_key = 'plugins::::::'"),
        ("routes", "path_handling = 'v1'"),
        ("services", "tags = {'a'}"),
        ("sm_vaults", "description = 'd'"),
        ("snis", "tags = {'a'}"),
        ("targets", "cache_key = 'targets:nil:nil::::nil'"),
        ("upstreams", "algorithm = 'round-robin'"),
        ("workspaces", "comment = 'c'"),
    ];
    for (table, cell) in ghosts {
        let partition = if ["ca_certificates", "certificates", "routes", "services", "snis"].contains(&table)
        {
            format!("partition = '{table}' AND ")
        } else {
            String::new()
        };
        blue.execute(&format!("UPDATE {table} SET {cell} WHERE {partition}id = {}", id(table)))
            .await
            .expect("an update");
    }
    blue.execute("UPDATE parameters SET created_at = 1 WHERE key = 'ghost'").await.expect("an update");
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, _) in ghosts {
        let line = migrated
            .ran
            .reject(table, &id(table))
            .unwrap_or_else(|| panic!("the ghost in {table} was not rejected"));
        assert_eq!(line["reason"], "incomplete_row", "{line:#}");
        assert!(migrated.find(table, &id(table)).is_none(), "a ghost of {table} is on green");
    }
    migrated.rejected("parameters", "ghost", "incomplete_row", "value");
    assert_eq!(migrated.ran.rejects.len(), ghosts.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_with_a_null_enabled_flag_is_enabled() {
    let blue = KongKeyspace::new("3.3").await;
    let on = blue.put("plugins", "null", json!({ "enabled": null })).await;
    let off = blue.put("plugins", "off", json!({ "enabled": false })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    assert_eq!(migrated.row("plugins", &on)["enabled"], true);
    assert_eq!(migrated.row("plugins", &off)["enabled"], false);
    let repair = migrated.group("repairs", "plugins", "enabled", "default_for_null");
    assert_eq!((&repair["rows"], &repair["examples"]), (&json!(1), &json!([on])), "the row is listed");
    assert_eq!((migrated.count("plugins", "repaired"), migrated.count("plugins", "applied")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_digest_is_computed_from_the_certificate() {
    let blue = KongKeyspace::new("3.3").await;
    // What Kong itself computed when it wrote these rows.
    let recorded = &Fixture::shipped("3.3").expect("a fixture").blue["ca_certificates"];
    let mut expected = Vec::new();
    for (at, row) in recorded.iter().enumerate() {
        let name = format!("authority {at}");
        let row_of = json!({ "cert": row.row["cert"], "cert_digest": null });
        expected.push((blue.put("ca_certificates", &name, row_of).await, row.row["cert_digest"].clone()));
    }
    let unreadable = blue
        .put("ca_certificates", "unreadable", json!({ "cert": "no certificate", "cert_digest": null }))
        .await;
    // The same certificate twice: found by the recomputed digest.
    let migrated = Migrated::new(&blue, "3.3").await;
    assert!(!expected.is_empty());
    for (row, digest) in &expected {
        assert_eq!(migrated.row("ca_certificates", row)["cert_digest"], *digest, "as Kong computes it");
    }
    migrated.group("repairs", "ca_certificates", "cert_digest", "digest_recomputed");
    migrated.rejected("ca_certificates", &unreadable, "incomplete_row", "cert_digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recomputed_digest_may_be_a_duplicate() {
    let blue = KongKeyspace::new("3.3").await;
    let recorded = &Fixture::shipped("3.3").expect("a fixture").blue["ca_certificates"][0].row;
    let whole = json!({ "cert": recorded["cert"], "cert_digest": recorded["cert_digest"] });
    let first = blue.put("ca_certificates", "first", whole).await;
    let second =
        blue.put("ca_certificates", "second", json!({ "cert": recorded["cert"], "cert_digest": null })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for row in [&first, &second] {
        migrated.rejected("ca_certificates", row, "duplicate", "cert_digest");
    }
    assert!(
        !migrated.has_group("repairs", "ca_certificates", "digest_recomputed"),
        "a rejected row was not repaired"
    );
}
