//! Which columns hold secrets, and what an output shows in their place.

use std::collections::BTreeSet;

use ring::digest;
use serde_json::Value as Json;

use crate::mapping::schema_map::SchemaMap;

/// Columns of Kong's tables that hold, or may hold, a secret, whatever the table.
const COLUMNS: &[&str] = &[
    "access_token",
    "cert",
    "cert_alt",
    "client_secret",
    "code",
    "config",
    "configuration",
    "contents",
    "credential_data",
    "data",
    "jwk",
    "jwks",
    "key",
    "key_alt",
    "key_encrypted",
    "keys",
    "password",
    "payload",
    "pem",
    "previous",
    "refresh_token",
    "rsa_public_key",
    "secret",
    "session_id",
    "unique_field_value",
    "user_token",
    "user_token_ident",
    "value",
    "vault_token",
];

/// Replaces secrets by digests, unless the operator asked for them.
#[derive(Debug, Clone)]
pub struct Redaction {
    show_secrets: bool,
    /// Against guessing; one for each output, so that equal values of one output are seen to be equal.
    salt: uuid::Uuid,
    /// Table and column of the secrets that schema maps name.
    named: BTreeSet<(String, String)>,
}

impl Redaction {
    pub fn new(show_secrets: bool) -> Redaction {
        Redaction { show_secrets, salt: uuid::Uuid::new_v4(), named: BTreeSet::new() }
    }

    /// Adds the columns that a schema map calls secret.
    pub fn add_map(&mut self, map: &SchemaMap) {
        for (table, rules) in &map.tables {
            let secret = rules.columns.iter().filter(|(_, column)| column.secret == Some(true));
            self.named.extend(secret.map(|(column, _)| (table.clone(), column.clone())));
        }
    }

    /// The value as an output may show it: of a secret `digest:` with twelve hexadecimal digits, and its length in bytes.
    pub fn shown(&self, table: &str, column: &str, value: Json) -> Json {
        if self.show_secrets || !self.is_secret(table, column, &value) {
            return value;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut hasher = digest::Context::new(&digest::SHA256);
        hasher.update(self.salt.as_bytes());
        hasher.update(text.as_bytes());
        let hex = data_encoding::HEXLOWER.encode(hasher.finish().as_ref());
        format!("digest:{} length:{}", hex.get(..12).unwrap_or_default(), text.len()).into()
    }

    /// The same for every column of a row of this table but those of its key, which names it anyway.
    pub fn shown_row(&self, table: &str, key: &Json, row: Json) -> Json {
        match row {
            Json::Object(columns) => {
                let shown = columns.into_iter().map(|(column, value)| {
                    let is_key = is_same_key(key, &value)
                        || key.get(&column).is_some_and(|part| is_same_key(part, &value));
                    let value = if is_key { value } else { self.shown(table, &column, value) };
                    (column, value)
                });
                Json::Object(shown.collect())
            }
            other => other,
        }
    }

    fn is_secret(&self, table: &str, column: &str, value: &Json) -> bool {
        // A name of a map may be a pattern for several tables.
        let names = |named: &str| {
            named == table || named.strip_suffix('*').is_some_and(|start| table.starts_with(start))
        };
        match value {
            Json::Null => false,
            // A counter's value is none.
            Json::Bool(_) | Json::Number(_) => self.is_named(column, names),
            _ => COLUMNS.contains(&column) || self.is_named(column, names),
        }
    }

    fn is_named(&self, column: &str, names: impl Fn(&str) -> bool) -> bool {
        self.named.iter().any(|(table, secret)| secret == column && names(table))
    }
}

/// jsonb, which holds keys, takes no U+0000.
fn is_same_key(key: &Json, value: &Json) -> bool {
    match (key.as_str(), value.as_str()) {
        (Some(key), Some(value)) => key == value || key == value.replace('\0', "\\u0000"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_shown_as_digests_unless_asked_for() {
        let (hiding, showing) = (Redaction::new(false), Redaction::new(true));
        let row =
            json!({ "id": "a", "password": "hunter2", "key": null, "keys": [{ "k": "s3cret" }], "value": 7 });
        let shown = hiding.shown_row("any", &Json::Null, row.clone());
        assert_eq!((&shown["id"], &shown["key"]), (&json!("a"), &Json::Null));
        assert!(shown["password"].as_str().is_some_and(|text| text.starts_with("digest:")));
        assert!(shown["password"].as_str().is_some_and(|text| text.ends_with(" length:7")));
        assert!(!shown.to_string().contains("hunter2") && !shown.to_string().contains("s3cret"));
        assert_eq!(shown["value"], json!(7), "a counter");
        let named = hiding.shown_row("any", &json!("hunter2"), row.clone());
        assert_eq!(named["password"], "hunter2", "the key names the row");
        assert_eq!(showing.shown_row("any", &Json::Null, row.clone()), row);
        assert_eq!(
            hiding.shown_row("any", &Json::Null, row.clone()),
            shown,
            "equal values of one output are equal"
        );
        assert_ne!(
            Redaction::new(false).shown_row("any", &Json::Null, row),
            shown,
            "of two outputs they are not"
        );
    }

    #[test]
    fn a_map_names_secrets_of_its_own() {
        let map = r#"{ "format": 1, "tables": {
            "acme_plans": { "columns": { "pin": { "secret": true }, "name": { "secret": false } } },
            "acme_logs_*": { "columns": { "line": { "secret": true } } } } }"#;
        let mut redaction = Redaction::new(false);
        redaction.add_map(&SchemaMap::parse(map, "a test").expect("a map"));
        let is_hidden = |table: &str, column: &str| redaction.shown(table, column, json!("x")) != json!("x");
        assert!(is_hidden("acme_plans", "pin") && is_hidden("acme_logs_may", "line"));
        assert!(!is_hidden("acme_plans", "name") && !is_hidden("others", "pin"));
    }
}
