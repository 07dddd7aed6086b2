//! The canonical form of a value: what Kong reads, however either database spells it.

use serde_json::json;
use uuid::Uuid;

/// One value as Kong reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Null, also a cell that is not there.
    Null,
    /// An id.
    Uuid([u8; 16]),
    /// A truth value.
    Bool(bool),
    /// A whole number of any width.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text, as bytes: blue may hold what is no UTF-8.
    Text(Vec<u8>),
    /// Microseconds since 1970.
    Instant(i64),
    /// JSON in its canonical spelling.
    Json(Vec<u8>),
    /// Values whose order means something.
    List(Vec<Value>),
    /// Values whose order means nothing.
    Set(Vec<Value>),
    /// Bytes that are not what their type says; equal to nothing but themselves.
    Opaque(Vec<u8>),
}

impl Value {
    /// Appends the form that digests and comparisons are made of: equal values have equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.push(0),
            Value::Uuid(bytes) => tagged(out, 1, bytes),
            Value::Bool(value) => tagged(out, 2, &[u8::from(*value)]),
            Value::Int(value) => tagged(out, 3, &value.to_be_bytes()),
            // Both zeros are one number.
            Value::Float(value) => tagged(out, 4, &(value + 0.0).to_be_bytes()),
            Value::Text(bytes) => tagged(out, 5, bytes),
            Value::Instant(micros) => tagged(out, 6, &micros.to_be_bytes()),
            Value::Json(text) => tagged(out, 7, text),
            Value::List(values) => several(out, 8, values.iter().map(Value::encoded).collect()),
            Value::Set(values) => {
                let mut encoded: Vec<Vec<u8>> = values.iter().map(Value::encoded).collect();
                encoded.sort();
                several(out, 9, encoded);
            }
            Value::Opaque(bytes) => tagged(out, 10, bytes),
        }
    }

    /// The same in a buffer of its own.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Whether Kong reads the same from both.
    pub fn same(&self, other: &Value) -> bool {
        self.encoded() == other.encoded()
    }

    /// The value for people and for findings.
    pub fn shown(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Uuid(bytes) => json!(Uuid::from_bytes(*bytes).to_string()),
            Value::Bool(value) => json!(value),
            Value::Int(value) => json!(value),
            Value::Float(value) => json!(value),
            Value::Text(bytes) => json!(String::from_utf8_lossy(bytes)),
            Value::Instant(micros) => json!(instant(*micros)),
            Value::Json(text) => {
                serde_json::from_slice(text).unwrap_or_else(|_| json!(String::from_utf8_lossy(text)))
            }
            Value::List(values) | Value::Set(values) => values.iter().map(Value::shown).collect(),
            Value::Opaque(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "bytes": hex })
            }
        }
    }
}

/// An instant as text, in UTC; the bare number where it is outside the calendar.
pub fn instant(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend((bytes.len() as u64).to_be_bytes());
    out.extend(bytes);
}

fn several(out: &mut Vec<u8>, tag: u8, values: Vec<Vec<u8>>) {
    out.push(tag);
    out.extend((values.len() as u64).to_be_bytes());
    values.iter().for_each(|value| out.extend(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_no_order_and_lists_have() {
        let text = |t: &str| Value::Text(t.into());
        let (ab, ba) = (vec![text("a"), text("b")], vec![text("b"), text("a")]);
        assert!(Value::Set(ab.clone()).same(&Value::Set(ba.clone())));
        assert!(!Value::List(ab).same(&Value::List(ba)));
        assert!(!Value::Set(vec![]).same(&Value::Null));
        assert!(!text("1").same(&Value::Int(1)));
    }
}
