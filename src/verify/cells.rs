//! The bytes of either database, read into values. Nothing trusts a length: every read is bounded by what is there.

use std::collections::BTreeMap;

use super::json::{self, Json};
use super::value::Value;
use crate::blue::cql_type::CqlType;

/// Microseconds between 1970, where Cassandra counts from, and 2000, where PostgreSQL does.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// What a column holds, whatever its spelling on either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// An id.
    Uuid,
    /// A text.
    Text,
    /// A truth value.
    Bool,
    /// A whole number.
    Int,
    /// A floating-point number.
    Float,
    /// An instant.
    Instant,
    /// A JSON value.
    Json,
    /// JSON object whose members are sets of texts.
    SetMap,
    /// Values whose order means something.
    List(Box<Meaning>),
    /// Values whose order means nothing.
    Set(Box<Meaning>),
}

impl Meaning {
    /// What a pair of columns holds; `ordered` where blue's set stands for a list. Nothing for a pair that is unknown.
    pub fn of(blue: &CqlType, green: &str, ordered: bool) -> Option<Meaning> {
        match blue {
            CqlType::Native(name) => Meaning::of_native(name, green),
            CqlType::List(element) | CqlType::Set(element) => {
                let element = Box::new(Meaning::of(element, green.strip_suffix("[]")?, ordered)?);
                let is_list = ordered || matches!(blue, CqlType::List(_));
                Some(if is_list { Meaning::List(element) } else { Meaning::Set(element) })
            }
            CqlType::Map(..) => matches!(green, "json" | "jsonb").then_some(Meaning::SetMap),
            CqlType::Other(_) => None,
        }
    }

    fn of_native(blue: &str, green: &str) -> Option<Meaning> {
        let is_text = matches!(blue, "text" | "ascii");
        match green.split('(').next().unwrap_or(green).trim_end() {
            "uuid" if matches!(blue, "uuid" | "timeuuid") => Some(Meaning::Uuid),
            "text" | "character varying" if is_text => Some(Meaning::Text),
            "json" | "jsonb" if is_text => Some(Meaning::Json),
            "boolean" if blue == "boolean" => Some(Meaning::Bool),
            "smallint" | "integer" | "bigint"
                if matches!(blue, "tinyint" | "smallint" | "int" | "bigint" | "counter") =>
            {
                Some(Meaning::Int)
            }
            "real" | "double precision" if matches!(blue, "float" | "double") => Some(Meaning::Float),
            other if other.starts_with("timestamp") && blue == "timestamp" => Some(Meaning::Instant),
            _ => None,
        }
    }
}

/// A cell of blue.
pub fn blue(meaning: &Meaning, cell: Option<&[u8]>) -> Value {
    let Some(bytes) = cell else { return Value::Null };
    let value = match meaning {
        Meaning::Instant => number(bytes).and_then(|ms| ms.checked_mul(1000)).map(Value::Instant),
        Meaning::List(element) => elements(bytes, 1)
            .map(|all| Value::List(all.into_iter().map(|one| blue(element, Some(one))).collect())),
        Meaning::Set(element) => elements(bytes, 1)
            .map(|all| Value::Set(all.into_iter().map(|one| blue(element, Some(one))).collect())),
        Meaning::SetMap => set_map(bytes),
        scalar => either(scalar, bytes),
    };
    value.unwrap_or_else(|| Value::Opaque(bytes.to_vec()))
}

/// A field of green, as the binary protocol gives it.
pub fn green(meaning: &Meaning, field: Option<&[u8]>) -> Value {
    let Some(bytes) = field else { return Value::Null };
    let value = match meaning {
        Meaning::Instant => number(bytes).and_then(|us| us.checked_add(EPOCH_2000)).map(Value::Instant),
        Meaning::List(element) => {
            array(bytes).map(|all| Value::List(all.into_iter().map(|one| green(element, one)).collect()))
        }
        Meaning::Set(element) => {
            array(bytes).map(|all| Value::Set(all.into_iter().map(|one| green(element, one)).collect()))
        }
        // jsonb has its version in front, and no JSON text begins with such a byte.
        Meaning::Json => either(meaning, bytes.strip_prefix(&[1]).unwrap_or(bytes)),
        Meaning::SetMap => json::parse(bytes.strip_prefix(&[1]).unwrap_or(bytes)).map(without_order),
        scalar => either(scalar, bytes),
    };
    value.unwrap_or_else(|| Value::Opaque(bytes.to_vec()))
}

/// What both protocols spell alike.
fn either(meaning: &Meaning, bytes: &[u8]) -> Option<Value> {
    match meaning {
        Meaning::Uuid => bytes.try_into().ok().map(Value::Uuid),
        Meaning::Text => Some(Value::Text(bytes.to_vec())),
        Meaning::Bool => match bytes {
            [byte] => Some(Value::Bool(*byte != 0)),
            _ => None,
        },
        Meaning::Int => number(bytes).map(Value::Int),
        Meaning::Float => float(bytes).map(Value::Float),
        Meaning::Json => json::canonical(bytes).map(Value::Json),
        Meaning::Instant | Meaning::SetMap | Meaning::List(_) | Meaning::Set(_) => None,
    }
}

/// A whole number of one, two, four or eight bytes.
pub fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        1 => bytes.first().map(|byte| i64::from(i8::from_be_bytes([*byte]))),
        2 => bytes.try_into().ok().map(|b| i64::from(i16::from_be_bytes(b))),
        4 => bytes.try_into().ok().map(|b| i64::from(i32::from_be_bytes(b))),
        8 => bytes.try_into().ok().map(i64::from_be_bytes),
        _ => None,
    }
}

fn float(bytes: &[u8]) -> Option<f64> {
    match bytes.len() {
        4 => bytes.try_into().ok().map(|b| f64::from(f32::from_be_bytes(b))),
        8 => bytes.try_into().ok().map(f64::from_be_bytes),
        _ => None,
    }
}

/// Takes a four-byte length and so many bytes off the front; a negative length is null.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = bytes.split_at_checked(4)?;
    let length = number(length)?;
    if length < 0 {
        *bytes = rest;
        return Some(None);
    }
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(Some(value))
}

/// The elements of one of Cassandra's collections; `each` is 2 for a map, whose keys and values alternate.
fn elements(mut bytes: &[u8], each: usize) -> Option<Vec<&[u8]>> {
    let (count, rest) = bytes.split_at_checked(4)?;
    bytes = rest;
    let count = usize::try_from(number(count)?).ok()?.checked_mul(each)?;
    // Not with_capacity: the count is the server's word only.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take(&mut bytes)??);
    }
    bytes.is_empty().then_some(all)
}

/// The elements of one of PostgreSQL's arrays of one dimension.
fn array(bytes: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let (head, mut rest) = bytes.split_at_checked(12)?;
    match number(head.get(..4)?)? {
        0 => return Some(Vec::new()),
        1 => {}
        _ => return None,
    }
    let (dimension, elements) = rest.split_at_checked(8)?;
    rest = elements;
    let mut all = Vec::new();
    for _ in 0..number(dimension.get(..4)?)? {
        all.push(take(&mut rest)?);
    }
    rest.is_empty().then_some(all)
}

/// `map<text, set<text>>` as the object that Kong makes of it.
fn set_map(bytes: &[u8]) -> Option<Value> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    let mut members = BTreeMap::new();
    for pair in elements(bytes, 2)?.chunks_exact(2) {
        let &[name, values] = pair else { return None };
        let mut set = Vec::new();
        for one in elements(values, 1)? {
            set.push(Json::Text(text(one)?));
        }
        members.insert(text(name)?, Json::Array(set));
    }
    Some(without_order(Json::Object(members)))
}

/// An object whose arrays are sets.
fn without_order(json: Json) -> Value {
    let Json::Object(members) = json else { return Value::Json(json.spelled().into_bytes()) };
    let sorted = |value: Json| match value {
        Json::Array(mut values) => {
            values.sort_by_key(Json::spelled);
            Json::Array(values)
        }
        other => other,
    };
    let members = members.into_iter().map(|(name, value)| (name, sorted(value))).collect();
    Value::Json(Json::Object(members).spelled().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_instant_is_the_same_on_both_sides() {
        let on_blue = 1_700_000_000_123_i64.to_be_bytes();
        let on_green = (1_700_000_000_123_000_i64 - EPOCH_2000).to_be_bytes();
        assert_eq!(blue(&Meaning::Instant, Some(&on_blue)), green(&Meaning::Instant, Some(&on_green)));
    }

    #[test]
    fn numbers_of_any_width_are_one_number() {
        assert_eq!(
            blue(&Meaning::Int, Some(&7_i32.to_be_bytes())),
            green(&Meaning::Int, Some(&7_i64.to_be_bytes()))
        );
        assert_eq!(green(&Meaning::Int, Some(&(-1_i16).to_be_bytes())), Value::Int(-1));
    }

    proptest! {
        #[test]
        fn hostile_bytes_end(bytes in any::<Vec<u8>>()) {
            for meaning in [Meaning::SetMap, Meaning::Instant, Meaning::Json, Meaning::List(Box::new(Meaning::Text)), Meaning::Set(Box::new(Meaning::Json))] {
                blue(&meaning, Some(&bytes));
                green(&meaning, Some(&bytes));
            }
        }
    }
}
