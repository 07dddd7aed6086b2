//! The canonical text of a row's key: blue's rows, green's rows and the journal's rejects are matched by it.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::value::rfc3339;

/// Equal keys have equal texts, however the members of an object are ordered and an instant is written.
pub(crate) fn canonical_key(key: &Json) -> String {
    match key {
        Json::Object(members) => {
            let sorted: BTreeMap<_, _> =
                members.iter().map(|(name, value)| (name, with_canonical_instant(value))).collect();
            serde_json::to_string(&sorted).unwrap_or_default()
        }
        other => with_canonical_instant(other).to_string(),
    }
}

/// PostgreSQL and this program write different zones and different numbers of digits after the second.
fn with_canonical_instant(value: &Json) -> Json {
    let parse = |text: &str| chrono::DateTime::parse_from_rfc3339(text).ok();
    match value.as_str().and_then(parse) {
        Some(instant) => rfc3339(instant.timestamp_micros()).into(),
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn equal_keys_have_one_text() {
        let ours = json!({ "identifier": "a", "period_date": "2023-11-14T22:13:20.000Z" });
        let theirs = json!({ "period_date": "2023-11-14T22:13:20+00:00", "identifier": "a" });
        assert_eq!(canonical_key(&ours), canonical_key(&theirs));
        assert_ne!(canonical_key(&json!("a")), canonical_key(&json!("b")));
    }
}
