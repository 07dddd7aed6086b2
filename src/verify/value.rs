//! A value as Kong reads it, the same from either database.

use serde_json::json;
use uuid::Uuid;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum KongValue {
    Null,
    Uuid([u8; 16]),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Bytes, because blue may hold invalid UTF-8.
    Text(Vec<u8>),
    /// Microseconds since 1970.
    Instant(i64),
    /// Canonical JSON.
    Json(Vec<u8>),
    List(Vec<KongValue>),
    Set(Vec<KongValue>),
    /// Bytes that are invalid for their type; equal to the same bytes only.
    Opaque(Vec<u8>),
}

impl KongValue {
    /// Appends the form that is digested and compared: equal values have equal bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            KongValue::Null => out.push(0),
            KongValue::Uuid(bytes) => tagged(out, 1, bytes),
            KongValue::Bool(value) => tagged(out, 2, &[u8::from(*value)]),
            KongValue::Int(value) => tagged(out, 3, &value.to_be_bytes()),
            // Zero and negative zero are equal.
            KongValue::Float(value) => tagged(out, 4, &(value + 0.0).to_be_bytes()),
            KongValue::Text(bytes) => tagged(out, 5, bytes),
            KongValue::Instant(micros) => tagged(out, 6, &micros.to_be_bytes()),
            KongValue::Json(text) => tagged(out, 7, text),
            KongValue::List(values) => sequence(out, 8, values.iter().map(KongValue::encoded).collect()),
            KongValue::Set(values) => {
                let mut encoded: Vec<Vec<u8>> = values.iter().map(KongValue::encoded).collect();
                encoded.sort();
                sequence(out, 9, encoded);
            }
            KongValue::Opaque(bytes) => tagged(out, 10, bytes),
        }
    }

    pub(super) fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Whether Kong reads the same from both.
    pub(super) fn same(&self, other: &KongValue) -> bool {
        self.encoded() == other.encoded()
    }

    /// The value for reports and the differences file.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match self {
            KongValue::Null => serde_json::Value::Null,
            KongValue::Uuid(bytes) => json!(Uuid::from_bytes(*bytes).to_string()),
            KongValue::Bool(value) => json!(value),
            KongValue::Int(value) => json!(value),
            KongValue::Float(value) => json!(value),
            KongValue::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
            KongValue::Instant(micros) => json!(rfc3339(*micros)),
            KongValue::Json(text) => {
                serde_json::from_slice(text).unwrap_or_else(|_| json!(String::from_utf8_lossy(text)))
            }
            KongValue::List(values) | KongValue::Set(values) => {
                values.iter().map(KongValue::to_json).collect()
            }
            KongValue::Opaque(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "bytes": hex })
            }
        }
    }
}

/// An instant in UTC; the number itself where chrono's calendar ends before it.
pub(super) fn rfc3339(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend((bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}

fn sequence(out: &mut Vec<u8>, tag: u8, values: Vec<Vec<u8>>) {
    out.push(tag);
    out.extend((values.len() as u64).to_be_bytes());
    values.iter().for_each(|value| out.extend(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_unordered_and_lists_are_ordered() {
        let text = |t: &str| KongValue::Text(t.into());
        let (ab, ba) = (vec![text("a"), text("b")], vec![text("b"), text("a")]);
        assert!(KongValue::Set(ab.clone()).same(&KongValue::Set(ba.clone())));
        assert!(!KongValue::List(ab).same(&KongValue::List(ba)));
        assert!(!KongValue::Set(vec![]).same(&KongValue::Null));
        assert!(!text("1").same(&KongValue::Int(1)));
    }
}
