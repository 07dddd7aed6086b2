//! 4.7: text that Cassandra takes and PostgreSQL refuses. Nothing is replaced: a replaced byte in a name or a secret
//! would be another name or secret.

use serde_json::{Value, json};

use crate::migrated::Migrated;
use crate::row_builder::{KongKeyspace, hex, id, text_of};

/// The sequences of 4.7, each of which Cassandra's own validator takes.
const NOT_UTF8: &[(&str, &[u8])] = &[
    ("overlong nul", &[0xc0, 0x80]),
    ("low surrogate first", &[0xed, 0xa0, 0x80]),
    ("high surrogate last", &[0xed, 0xbf, 0xbf]),
    ("surrogate pair", &[0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80]),
    ("above U+10FFFF", &[0xf4, 0x90, 0x80, 0x80]),
    ("F5", &[0xf5, 0x80, 0x80, 0x80]),
    ("F7", &[0xf7, 0xbf, 0xbf, 0xbf]),
    ("broken E0", &[0xe0, 0x41, 0x80]),
    ("broken F0", &[0xf0, 0x30, 0x80, 0x80]),
];

fn within(bytes: &[u8]) -> Vec<u8> {
    [b"a".as_slice(), bytes, b"z"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_is_rejected_and_shown_as_bytes() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let mut expected = Vec::new();
    for (name, bytes) in NOT_UTF8 {
        let text = within(bytes);
        let prefixed = [blue.own("").as_bytes(), &text].concat();
        let config = [b"{\"a\":\"".as_slice(), &text, b"\"}"].concat();
        let whole: [(&str, &str, &[u8]); 5] = [
            ("consumers", "username", &prefixed),
            ("keyauth_credentials", "key", &prefixed),
            ("basicauth_credentials", "password", &text),
            ("targets", "target", &text),
            ("plugins", "config", &config),
        ];
        for (table, column, cell) in whole {
            let row = blue.put(table, &format!("{table} {name}"), json!({})).await;
            let taken = blue.put_bytes(table, &row, column, cell).await;
            assert_eq!(taken, Ok(()), "Cassandra takes {name} in {table}.{column}");
            expected.push((table, row, column, json!({ "bytes": hex(cell) })));
        }
        let (element, shown) = (text_of(&text), json!({ "bytes": hex(&text) }));
        let within = [
            ("hosts", format!("['good.example.com', {element}]"), json!(["good.example.com", shown])),
            ("tags", format!("{{{element}}}"), json!([shown])),
            ("sources", format!("{{{element}}}"), json!([shown])),
            ("headers", format!("{{'x-name': {{{element}}}}}"), json!({ "x-name": [shown] })),
            // A key of JSON cannot be anything but text.
            (
                "headers",
                format!("{{{element}: {{'value'}}}}"),
                json!({ String::from_utf8_lossy(&text): ["value"] }),
            ),
        ];
        for (column, literal, shown) in within {
            let row = blue.put("routes", &format!("{name} {}", expected.len()), json!({})).await;
            let taken = blue.put_literal("routes", &row, column, &literal).await;
            assert_eq!(taken, Ok(()), "Cassandra takes {name} in routes.{column}");
            expected.push(("routes", row, column, shown));
        }
    }
    let migrated = Migrated::with(&blue, "3.3", &["--show-secrets"]).await;
    for (table, row, column, shown) in &expected {
        let line = migrated.rejected(table, row, "text_not_utf8", column);
        assert_eq!(line["row"][column], *shown, "not a byte is lost in showing");
    }
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nul_character_is_rejected_in_every_column() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let nul = "nul\0char";
    let prefixed = blue.own(nul);
    let cases: Vec<(&str, &str, Value)> = vec![
        ("consumers", "username", json!(prefixed)),
        ("consumers", "custom_id", json!(prefixed)),
        ("keyauth_credentials", "key", json!(prefixed)),
        ("keyauth_credentials", "tags", json!(["good", nul])),
        ("basicauth_credentials", "password", json!(nul)),
        ("acls", "group", json!(nul)),
        ("keys", "jwk", json!(nul)),
        // A part of the composite key is to blame, not the key that is made of it.
        ("keys", "kid", json!(nul)),
        ("plugins", "config", json!("{\"a\":\"nul\0char\"}")),
        ("routes", "hosts", json!(["good.example.com", nul])),
        ("routes", "paths", json!([nul])),
        ("routes", "headers", json!({ "x-name": ["good", nul] })),
        ("routes", "headers", json!({ nul: ["good"] })),
        ("services", "path", json!(nul)),
        ("oauth2_credentials", "redirect_uris", json!([nul])),
    ];
    let mut expected = Vec::new();
    for (at, (table, column, value)) in cases.into_iter().enumerate() {
        expected.push((
            table,
            blue.put(table, &format!("{table} {at}"), json!({ column: value })).await,
            column,
        ));
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for (table, row, column) in &expected {
        migrated.rejected(table, row, "text_nul", column);
    }
    assert_eq!(
        migrated.ran.reject("consumers", &id("consumers 0")).expect("a line")["row"]["username"],
        prefixed.as_str()
    );
    assert_eq!(migrated.ran.rejects.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_jsonb_cannot_hold_is_named_in_the_rejects_file() {
    let blue = KongKeyspace::new("3.3").await;
    // A key of text: PostgreSQL can neither store it nor name it in jsonb.
    blue.put("parameters", "nul\0key", json!({})).await;
    // The same six characters as text are a good key, but this row lacks its value.
    blue.put("parameters", "\\u0000", json!({ "value": null })).await;
    blue.put("parameters", "back\\\\slash", json!({ "value": null })).await;
    let migrated = Migrated::new(&blue, "3.3").await;
    let found =
        |key: &str| migrated.ran.rejects.iter().find(|line| line["row"]["key"] == key).expect("a line");
    assert_eq!(
        (found("nul\0key")["reason"].as_str(), found("nul\0key")["column"].as_str()),
        (Some("text_nul"), Some("key"))
    );
    migrated.rejected("parameters", "\\u0000", "incomplete_row", "value");
    migrated.rejected("parameters", "back\\\\slash", "incomplete_row", "value");
    assert_eq!(migrated.ran.rejects.len(), 3, "{:#?}", migrated.ran.rejects);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_text_that_postgres_can_hold_is_copied_unchanged() {
    let blue = KongKeyspace::new("3.3").await;
    blue.parents().await;
    let texts = [
        "",
        " ",
        "Zoë 日本 🐘",
        "\u{1}\u{7f}\u{fffd}\u{feff}",
        "\r\n\t\\N\\.",
        "it's \"quoted\" \\ {a,b}",
        "\u{10ffff}",
        "%_;--",
    ];
    let mut expected = Vec::new();
    for (at, text) in texts.into_iter().enumerate() {
        let row = json!({ "username": blue.own(&format!("{at}{text}")), "tags": [text, "second"] });
        expected.push((blue.put("consumers", &format!("{at}"), row).await, format!("{at}{text}"), text));
    }
    let migrated = Migrated::new(&blue, "3.3").await;
    for (row, name, tag) in &expected {
        assert_eq!(migrated.row("consumers", row)["username"], name.as_str());
        let tags = migrated.row("consumers", row)["tags"].as_array().expect("tags");
        assert!(tags.iter().any(|one| one == tag), "{tag:?} in {tags:?}");
    }
    assert_eq!(migrated.ran.code, 0, "{:#?}", migrated.ran.rejects);
}
