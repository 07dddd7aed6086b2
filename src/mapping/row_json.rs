//! A row of blue shown to people, as JSON, whatever its bytes are: for the rejects file.
//!
//! Nothing is lost in showing: a text that is no UTF-8 becomes `{"bytes": "<hex>"}`, a value that is not of its type
//! becomes the same.

use serde_json::{Map, Value, json};

use crate::cql::CqlType;
use crate::cql::cell::{self, Elements, Malformed};

use super::table_plan::{Cell, TablePlan};

/// The key that names a row: the text of a key of one column, an object for a key of several. jsonb takes no U+0000,
/// which a key of a rejected row may hold; it is spelled `\u0000` there.
pub fn key(plan: &TablePlan, cells: &[Option<&[u8]>]) -> Value {
    let mut parts = Map::new();
    for name in &plan.key {
        let shown = plan.cells.iter().zip(cells).find_map(|(cell, bytes)| match cell {
            Cell::Value(own, cql_type) if own == name => Some(storable(value(cql_type, *bytes))),
            _ => None,
        });
        parts.insert(name.clone(), shown.unwrap_or(Value::Null));
    }
    match parts.len() {
        1 => parts.into_iter().next().map_or(Value::Null, |(_, value)| value),
        _ => Value::Object(parts),
    }
}

/// A key from [`key`] for a message: the bare text of a key of one column.
pub fn display_key(key: &Value) -> String {
    key.as_str().map_or_else(|| key.to_string(), str::to_owned)
}

fn storable(part: Value) -> Value {
    match part {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\\u0000")),
        other => other,
    }
}

/// The whole row, column by column.
pub fn row(plan: &TablePlan, cells: &[Option<&[u8]>]) -> Value {
    let mut shown = Map::new();
    for (cell, bytes) in plan.cells.iter().zip(cells) {
        match cell {
            Cell::Value(name, cql_type) => shown.insert(name.clone(), value(cql_type, *bytes)),
            Cell::TimeToLive(name) if bytes.is_some() => {
                shown.insert(format!("ttl({name})"), value(&CqlType::Native("int".to_owned()), *bytes))
            }
            _ => None,
        };
    }
    Value::Object(shown)
}

fn value(cql_type: &CqlType, bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    readable(cql_type, bytes).unwrap_or_else(|_| raw(bytes))
}

fn raw(bytes: &[u8]) -> Value {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "bytes": hex })
}

fn readable(cql_type: &CqlType, bytes: &[u8]) -> Result<Value, Malformed> {
    match cql_type {
        CqlType::Native(name) => native(name, bytes),
        CqlType::List(element) | CqlType::Set(element) => {
            let elements = Elements::of_collection(bytes)?;
            elements
                .map(|one| Ok(value(element, Some(one?))))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array)
        }
        CqlType::Map(_, member) => {
            let mut shown = Map::new();
            let mut elements = Elements::of_map(bytes)?;
            while let (Some(key), Some(one)) = (elements.next(), elements.next()) {
                let key = String::from_utf8_lossy(key?).into_owned();
                shown.insert(key, value(member, Some(one?)));
            }
            Ok(Value::Object(shown))
        }
        CqlType::Other(_) => Err(Malformed),
    }
}

/// A type without an arm here is shown by its bytes.
pub(crate) fn native(name: &str, bytes: &[u8]) -> Result<Value, Malformed> {
    Ok(match name {
        "text" | "ascii" => json!(std::str::from_utf8(bytes).map_err(|_| Malformed)?),
        "uuid" | "timeuuid" => json!(uuid::Uuid::from_slice(bytes).map_err(|_| Malformed)?.to_string()),
        "int" => json!(cell::int(bytes)?),
        "smallint" => json!(i16::from_be_bytes(bytes.try_into().map_err(|_| Malformed)?)),
        "tinyint" => json!(i8::from_be_bytes(bytes.try_into().map_err(|_| Malformed)?)),
        "bigint" | "counter" => json!(cell::bigint(bytes)?),
        "boolean" => json!(bytes.first().ok_or(Malformed)? != &0),
        "timestamp" => timestamp(cell::bigint(bytes)?),
        "float" => number(f64::from(f32::from_be_bytes(bytes.try_into().map_err(|_| Malformed)?)))?,
        "double" => number(f64::from_be_bytes(bytes.try_into().map_err(|_| Malformed)?))?,
        "blob" => raw(bytes),
        _ => return Err(Malformed),
    })
}

/// JSON knows no NaN and no infinity: those are shown by their bytes.
fn number(number: f64) -> Result<Value, Malformed> {
    serde_json::Number::from_f64(number).map(Value::Number).ok_or(Malformed)
}

/// An instant that chrono cannot write is shown as milliseconds.
fn timestamp(milliseconds: i64) -> Value {
    match chrono::DateTime::from_timestamp_millis(milliseconds) {
        Some(instant) => json!(instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)),
        None => json!(milliseconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes_can_be_shown() {
        let show = |cql_type: &str, bytes: &[u8]| value(&CqlType::parse(cql_type), Some(bytes));
        assert_eq!(show("text", b"nul\0x"), json!("nul\0x"));
        assert_eq!(show("text", &[0xc0, 0x80]), json!({ "bytes": "c080" }));
        assert_eq!(show("int", b""), json!({ "bytes": "" }));
        assert_eq!(show("smallint", &(-2_i16).to_be_bytes()), json!(-2));
        assert_eq!(show("tinyint", &[0xff]), json!(-1));
        assert_eq!(show("double", &0.5_f64.to_be_bytes()), json!(0.5));
        assert_eq!(show("float", &f32::INFINITY.to_be_bytes()), json!({ "bytes": "7f800000" }));
        assert_eq!(show("timestamp", &0_i64.to_be_bytes()), json!("1970-01-01T00:00:00.000Z"));
        assert_eq!(show("timestamp", &i64::MAX.to_be_bytes()), json!(i64::MAX));
        assert_eq!(show("set<text>", &[0, 0, 0, 1, 0, 0, 0, 1, 0xff]), json!([{ "bytes": "ff" }]));
    }
}
