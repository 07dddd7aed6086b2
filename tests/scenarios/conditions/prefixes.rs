//! 4.4: what may precede a unique text besides the row's own workspace id.

use serde_json::json;

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, id};

/// Every column of Kong 3.3 that carries the prefix.
const PREFIXED: &[(&str, &str)] = &[
    ("basicauth_credentials", "username"),
    ("consumers", "custom_id"),
    ("consumers", "username"),
    ("hmacauth_credentials", "username"),
    ("jwt_secrets", "key"),
    ("key_sets", "name"),
    ("keyauth_credentials", "key"),
    ("keys", "name"),
    ("oauth2_authorization_codes", "code"),
    ("oauth2_credentials", "client_id"),
    ("oauth2_tokens", "access_token"),
    ("oauth2_tokens", "refresh_token"),
    ("plugins", "instance_name"),
    ("routes", "name"),
    ("services", "name"),
    ("upstreams", "name"),
];

/// Unique or telling texts that never carry it, even where they look as if they did.
const PLAIN: &[(&str, &str)] = &[
    ("acls", "group"),
    ("acme_storage", "key"),
    ("ca_certificates", "cert_digest"),
    ("keys", "kid"),
    ("oauth2_credentials", "name"),
    ("plugins", "name"),
    ("services", "host"),
    ("sessions", "session_id"),
    ("sm_vaults", "prefix"),
    ("snis", "name"),
    ("targets", "target"),
];

const REQUESTED: &[&str] = &["--include-table", "oauth2_authorization_codes", "--include-table", "sessions"];

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_of_another_workspace_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let (own, other, stranger) = (blue.ws.clone(), blue.workspace("other").await, id("a deleted workspace"));
    // Values must differ, or they would be duplicates of one another.
    let shapes = |name: &str| {
        [
            (format!("{other}:{name}"), "prefix_foreign"),
            (format!("{stranger}:{name}"), "prefix_foreign"),
            (format!("{}:{name}", own.to_uppercase()), "prefix_foreign"),
            (format!("{own}:{own}:{name}"), "prefix_double"),
            (format!("{own}:{other}:{name}"), "prefix_double"),
            (format!("{own}:$(VALUE)"), "prefix_literal"),
            ("$(VALUE)".to_owned(), "prefix_literal"),
        ]
    };
    let mut expected = Vec::new();
    for (table, column) in PREFIXED {
        for (at, (value, reason)) in shapes(&format!("{table}-{column}")).into_iter().enumerate() {
            let row = blue.put(table, &format!("{table} {column} {at}"), json!({ *column: value })).await;
            expected.push((*table, row, reason, *column));
        }
    }
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for (table, row, reason, column) in &expected {
        migrated.rejected(table, row, reason, column);
    }
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workspace_prefix_is_removed_and_a_missing_one_is_noted() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let stranger = id("no workspace");
    let mut expected = Vec::new();
    for (table, column) in PREFIXED {
        let name = format!("{table}-{column}");
        let values = [
            (blue.own(&format!("{name} plain")), format!("{name} plain")),
            (blue.own(&format!(":{name}:a:b:c")), format!(":{name}:a:b:c")),
            (blue.own(&format!("{stranger}:{name}")), format!("{stranger}:{name}")),
            (blue.own(&format!("{name} 日本 🐘")), format!("{name} 日本 🐘")),
            (format!("{name} bare"), format!("{name} bare")),
            // A colon at byte 37 alone is no prefix, although Kong's own reader cuts there.
            (format!("{name:x<36}:bare"), format!("{name:x<36}:bare")),
        ];
        for (at, (on_blue, on_green)) in values.into_iter().enumerate() {
            let row = blue.put(table, &format!("{table} {column} {at}"), json!({ *column: on_blue })).await;
            expected.push((*table, row, *column, on_green));
        }
    }
    // The empty value is unique as well.
    let empty = blue.put("consumers", "empty", json!({ "username": blue.own("") })).await;
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for (table, row, column, value) in &expected {
        assert_eq!(migrated.row(table, row)[column], value.as_str(), "{table}.{column}");
    }
    assert_eq!(migrated.row("consumers", &empty)["username"], "");
    for (table, column) in PREFIXED {
        let note = migrated.group("notes", table, column, "prefix_missing");
        assert_eq!(note["rows"], 2, "{note:#}");
        assert!(note["examples"].as_array().is_some_and(|keys| !keys.is_empty()), "{note:#}");
    }
    assert_eq!(migrated.ran.code, 0, "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_has_a_prefix_is_copied_byte_for_byte() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (table, column) in PLAIN {
        for (at, value) in [blue.own(table), format!("{}:{table}", id("other")), "$(VALUE)".to_owned()]
            .into_iter()
            .enumerate()
        {
            let row = blue.put(table, &format!("{table} {column} {at}"), json!({ *column: value })).await;
            expected.push((*table, row, *column, value));
        }
    }
    for key in [blue.own("parameter"), "$(VALUE)".to_owned()] {
        blue.put("parameters", &key, json!({})).await;
        expected.push(("parameters", key.clone(), "key", key));
    }
    let migrated = Migrated::with(&blue, "3.3", REQUESTED).await;
    for (table, row, column, value) in &expected {
        assert_eq!(migrated.row(table, row)[column], value.as_str(), "{table}.{column}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keyring_cipher_text_is_copied_unchanged_with_a_note() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let cipher = "$ke$1$-abcdef-0123-4567";
    let key = blue.put("keyauth_credentials", "encrypted", json!({ "key": cipher })).await;
    let secret = blue.put("jwt_secrets", "encrypted too", json!({ "secret": cipher })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    assert_eq!(migrated.row("keyauth_credentials", &key)["key"], cipher);
    assert_eq!(migrated.row("jwt_secrets", &secret)["secret"], cipher);
    migrated.group("notes", "keyauth_credentials", "key", "keyring_cipher_text");
    migrated.group("notes", "jwt_secrets", "secret", "keyring_cipher_text");
}
