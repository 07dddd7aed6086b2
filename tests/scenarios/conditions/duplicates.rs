//! 4.6 and 4.6b: what green allows only once. No rule says which row wins, so every member of a group is rejected, until the
//! operator keeps one in a reviewed rejects file.

use std::io::Write;

use kongferry_harness::lab;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::migrated::{Migrated, refused_into};
use crate::row_builder::{KongKeyspace, id};
use crate::support::{kongferry, migrate_arguments};

/// Two rows that differ in one thing only, and the columns they are reported with.
#[tokio::test(flavor = "multi_thread")]
async fn every_duplicate_is_rejected() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let other = blue.workspace("other").await;
    let same = |column: &str, value: &str| json!({ column: value });
    // Found only after the prefix was removed: one has it, the other has not.
    let stripped = |column: &str, value: &str| [same(column, &blue.own(value)), same(column, value)];
    let twice = |row: Value| [row.clone(), row];
    let scope = json!({ "name": "cors", "service_id": id("services") });
    let pairs: Vec<(&str, &str, [Value; 2])> = vec![
        ("consumers", "ws_id, username", stripped("username", "bob")),
        ("consumers", "ws_id, custom_id", stripped("custom_id", "bob")),
        ("keyauth_credentials", "ws_id, key", twice(same("key", &blue.own("the key")))),
        ("basicauth_credentials", "ws_id, username", stripped("username", "bob")),
        ("hmacauth_credentials", "ws_id, username", stripped("username", "bob")),
        ("jwt_secrets", "ws_id, key", stripped("key", "iss")),
        ("oauth2_credentials", "ws_id, client_id", stripped("client_id", "app")),
        ("oauth2_tokens", "ws_id, access_token", stripped("access_token", "token")),
        ("oauth2_tokens", "ws_id, refresh_token", stripped("refresh_token", "refresh")),
        ("services", "ws_id, name", stripped("name", "one")),
        ("routes", "ws_id, name", stripped("name", "one")),
        ("upstreams", "ws_id, name", stripped("name", "one")),
        ("plugins", "ws_id, instance_name", stripped("instance_name", "one")),
        ("plugins", "cache_key", twice(scope.clone())),
        ("acls", "cache_key", twice(same("group", "admins"))),
        ("targets", "cache_key", twice(same("target", "10.0.0.1:80"))),
        ("keys", "cache_key", twice(same("kid", "one kid"))),
        ("ca_certificates", "cert_digest", twice(same("cert_digest", "the digest"))),
        ("snis", "name", twice(same("name", "same.example.com"))),
        ("acme_storage", "key", twice(same("key", "account"))),
        ("workspaces", "name", twice(same("name", "twice"))),
        // 4.6b: allowed by Cassandra, one per workspace.
        (
            "keys",
            "name",
            [same("name", &blue.own("k")), json!({ "name": format!("{other}:k"), "ws_id": other })],
        ),
        (
            "key_sets",
            "name",
            [same("name", &blue.own("k")), json!({ "name": format!("{other}:k"), "ws_id": other })],
        ),
        ("keys", "cache_key", [same("kid", "shared"), json!({ "kid": "shared", "ws_id": other })]),
        (
            "snis",
            "name",
            [
                same("name", "both.example.com"),
                json!({ "name": "both.example.com", "ws_id": other, "certificate_id": id("their certificate") }),
            ],
        ),
        ("sm_vaults", "prefix", [same("prefix", "both"), json!({ "prefix": "both", "ws_id": other })]),
    ];
    blue.put("certificates", "their certificate", json!({ "ws_id": other })).await;
    let mut expected = Vec::new();
    for (at, (table, columns, rows)) in pairs.into_iter().enumerate() {
        for (member, row) in rows.into_iter().enumerate() {
            expected.push((table, blue.put(table, &format!("{table} {at} {member}"), row).await, columns));
        }
    }
    // The same name in two workspaces is no duplicate where the workspace is a part of the key.
    let theirs = blue
        .put("consumers", "their bob", json!({ "ws_id": other, "username": format!("{other}:bob") }))
        .await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, key, columns) in &expected {
        let line = migrated.rejected(table, key, "duplicate", columns);
        assert!(
            line["message"].as_str().is_some_and(|text| text.contains("2 rows with the same value")),
            "{line:#}"
        );
    }
    migrated.row("consumers", &theirs);
    assert_eq!(migrated.ran.rejects.len(), expected.len(), "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_found_by_the_rebuilt_cache_key() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let scope = |stored: &str| json!({ "name": "cors", "service_id": id("services"), "cache_key": stored });
    let first = blue.put("plugins", "first", scope("plugins:cors:::::stale one")).await;
    let second = blue.put("plugins", "second", scope("plugins:cors:::::stale two")).await;
    // Equal as stored, different as rebuilt.
    let stale = |name: &str| json!({ "name": name, "cache_key": "plugins:same:::::" });
    let third = blue.put("plugins", "third", stale("third")).await;
    let fourth = blue.put("plugins", "fourth", stale("fourth")).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for plugin in [&first, &second] {
        migrated.rejected("plugins", plugin, "duplicate", "cache_key");
    }
    for (plugin, name) in [(&third, "third"), (&fourth, "fourth")] {
        assert_eq!(migrated.row("plugins", plugin)["cache_key"], format!("plugins:{name}:::::{}", blue.ws));
    }
}

/// Three consumers of one name, each with a key, and what a first run says about them.
async fn three_bobs() -> (KongKeyspace, Vec<String>, Vec<Value>) {
    let blue = KongKeyspace::new("3.3").await;
    let mut bobs = Vec::new();
    for at in 0..3 {
        let bob = blue.put("consumers", &format!("bob {at}"), json!({ "username": blue.own("bob") })).await;
        blue.put("keyauth_credentials", &format!("key {at}"), json!({ "consumer_id": bob })).await;
        bobs.push(bob);
    }
    blue.put("consumers", "ann", json!({})).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    for (at, bob) in bobs.iter().enumerate() {
        let line = migrated.rejected("consumers", bob, "duplicate", "ws_id, username");
        assert!(line["message"].as_str().is_some_and(|text| text.contains("3 rows")), "{line:#}");
        migrated.rejected_for("keyauth_credentials", &id(&format!("key {at}")), "consumer_id", bob);
    }
    (blue, bobs, migrated.ran.rejects)
}

/// A rejects file with these lines.
fn file(lines: &[Value]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    for line in lines {
        writeln!(file, "{line}").expect("written");
    }
    file
}

fn accepting(file: &NamedTempFile) -> String {
    format!("--accept-rejects={}", file.path().display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewed_rejects_file_keeps_one_duplicate() {
    let (blue, bobs, mut lines) = three_bobs().await;
    for line in lines.iter_mut().filter(|line| line["key"] == bobs[1].as_str()) {
        line["decision"] = "keep".into();
    }
    let green = lab().fresh_green("3.3").await.expect("green");
    let reviewed = file(&lines);
    let ran = kongferry(&migrate_arguments(&blue, &green, &[&accepting(&reviewed)])).await.expect_code(3);
    let names = |rows: Vec<Value>| {
        let mut ids: Vec<String> =
            rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect();
        ids.sort();
        ids
    };
    let mut expected = vec![bobs[1].clone(), id("ann")];
    expected.sort();
    assert_eq!(names(green.rows("consumers").await.expect("rows")), expected);
    assert_eq!(
        names(green.rows("keyauth_credentials").await.expect("rows")),
        [id("key 1")],
        "its child goes with it"
    );
    assert!(
        ran.reject("consumers", &bobs[0]).is_some() && ran.reject("consumers", &bobs[2]).is_some(),
        "{:#?}",
        ran.rejects
    );
    assert_eq!(ran.rejects.len(), 4, "{:#?}", ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_missing_from_the_reviewed_file_stop_the_run() {
    let (blue, bobs, lines) = three_bobs().await;
    let green = lab().fresh_green("3.3").await.expect("green");
    let is_bob = |line: &Value, at: usize| line["key"] == bobs[at].as_str();
    // One line is missing.
    let without: Vec<Value> = lines.iter().filter(|line| !is_bob(line, 2)).cloned().collect();
    let refusal = refused_into(&blue, &green, &[&accepting(&file(&without))], "1 of 6 rejected rows").await;
    assert!(refusal["details"].to_string().contains(&bobs[2]), "the row is named: {refusal:#}");
    // The same row with another reason was not reviewed.
    let mut otherwise = lines.clone();
    for line in otherwise.iter_mut().filter(|line| is_bob(line, 0)) {
        line["reason"] = "incomplete_row".into();
    }
    refused_into(&blue, &green, &[&accepting(&file(&otherwise))], "1 of 6 rejected rows").await;
    // Two of one group cannot both be kept.
    let mut both = lines.clone();
    for line in both.iter_mut().filter(|line| is_bob(line, 0) || is_bob(line, 1)) {
        line["decision"] = "keep".into();
    }
    refused_into(&blue, &green, &[&accepting(&file(&both))], "2 of 6 rejected rows").await;
    // And without any word nothing is accepted.
    refused_into(&blue, &green, &[], "green does not accept 6 rows of blue").await;
}
