//! 4.13: values too long for one of green's indexes. The limit holds after compression, so only PostgreSQL can say.

use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, id, incompressible};

/// Every column of Kong 3.3 that an index of green covers and that holds text of any length.
fn columns() -> Vec<(&'static str, &'static str)> {
    vec![
        ("acls", "group"),
        ("acme_storage", "key"),
        ("basicauth_credentials", "username"),
        ("ca_certificates", "cert_digest"),
        ("consumers", "custom_id"),
        ("consumers", "username"),
        ("hmacauth_credentials", "username"),
        ("jwt_secrets", "key"),
        ("jwt_secrets", "secret"),
        ("key_sets", "name"),
        ("keyauth_credentials", "key"),
        ("keys", "kid"),
        ("keys", "name"),
        ("oauth2_credentials", "client_id"),
        ("oauth2_credentials", "client_secret"),
        ("oauth2_tokens", "access_token"),
        ("oauth2_tokens", "authenticated_userid"),
        ("oauth2_tokens", "refresh_token"),
        ("plugins", "instance_name"),
        ("plugins", "name"),
        ("routes", "name"),
        ("services", "name"),
        ("sessions", "session_id"),
        ("sm_vaults", "prefix"),
        ("snis", "name"),
        ("targets", "target"),
        ("upstreams", "name"),
        ("workspaces", "name"),
    ]
}

const PREFIXED: &[&str] =
    &["username", "custom_id", "key", "name", "client_id", "access_token", "refresh_token", "instance_name"];
const NEVER_PREFIXED: &[&str] = &["acme_storage", "snis", "sm_vaults", "workspaces"];

fn on_blue(blue: &KongKeyspace, table: &str, column: &str, value: &str) -> Value {
    let plain = NEVER_PREFIXED.contains(&table)
        || !PREFIXED.contains(&column)
        || (table, column) == ("plugins", "name");
    json!({ column: if plain { value.to_owned() } else { blue.own(value) } })
}

#[tokio::test(flavor = "multi_thread")]
async fn values_too_long_for_an_index_are_rejected_with_their_column() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (table, column) in columns() {
        let name = format!("{table} {column}");
        let row = on_blue(&blue, table, column, &incompressible(&name, 6400));
        expected.push((table, blue.put(table, &name, row).await, column));
    }
    let tagged = ["acls", "certificates", "consumers", "routes", "targets"];
    for table in tagged {
        let row = json!({ "tags": ["short", incompressible(table, 6400)] });
        expected.push((table, blue.put(table, &format!("{table} tagged"), row).await, "tags"));
    }
    let parameter = incompressible("parameters", 6400);
    blue.put("parameters", &parameter, json!({})).await;
    expected.push(("parameters", parameter, "key"));
    let migrated = Migrated::with(&blue, "3.3", &["--include-table", "sessions"]).await;
    for (table, row, column) in &expected {
        let line = migrated
            .ran
            .reject(table, row)
            .unwrap_or_else(|| panic!("the long {table}.{column} was not rejected"));
        assert_eq!(line["reason"], "index_row_too_large", "{table}.{column}: {}", line["message"]);
        // The index of a composite key is found first where the column is a part of one.
        let named = line["column"].as_str().unwrap_or_default();
        let through_key = named == "cache_key" && matches!(*column, "group" | "kid" | "target")
            || (*table, *column) == ("plugins", "name");
        assert!(
            named.split(", ").any(|one| one == *column) || through_key,
            "{table}.{column} is reported as {named:?}"
        );
        let message = line["message"].as_str().unwrap_or_default();
        assert!(message.contains("bytes"), "the length is shown: {message}");
        assert!(message.len() < 400, "and the value is not: {message}");
    }
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn long_values_that_compress_or_just_fit_are_migrated() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (table, column) in columns() {
        for (at, value) in
            ["a".repeat(60_000), incompressible(&format!("{table}{column}"), 2400)].into_iter().enumerate()
        {
            let row = on_blue(&blue, table, column, &value);
            expected.push((
                table,
                blue.put(table, &format!("{table} {column} {at}"), row).await,
                column,
                value,
            ));
        }
    }
    let migrated = Migrated::with(&blue, "3.3", &["--include-table", "sessions"]).await;
    for (table, row, column, value) in &expected {
        assert!(migrated.row(table, row)[column] == value.as_str(), "{table}.{column} is not as it was");
    }
    assert_eq!(
        migrated.ran.code,
        0,
        "{:?}",
        migrated.ran.rejects.iter().map(|line| &line["message"]).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn children_of_a_row_with_a_value_too_long_are_rejected() {
    let blue = KongKeyspace::new("2.8").await;
    let long = blue.own(&incompressible("consumer", 6400));
    let consumer = blue.put("consumers", "long", json!({ "username": long })).await;
    blue.put("keyauth_credentials", "key", json!({ "consumer_id": consumer })).await;
    let migrated = Migrated::new(&blue, "2.8").await;
    migrated.rejected_for("keyauth_credentials", &id("key"), "consumer_id", &consumer);
}
