//! The bytes of either database, read into values. Nothing trusts a length: every read is bounded by what is there.

use std::borrow::Cow;

use super::json;
use super::spelling::Spelling;
use super::value::Value;
use crate::cql::CqlType;

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
    /// A text that PostgreSQL fills up with blanks.
    Padded,
    /// Bytes.
    Bytes,
    /// A JSON object, of blue's map; the type is that of the map's values, whose sets have no order.
    Object(CqlType),
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
            CqlType::Map(key, value) => {
                (matches!(green, "json" | "jsonb") && key.is("text") && is_json(value))
                    .then(|| Meaning::Object((**value).clone()))
            }
            CqlType::Other(_) => None,
        }
    }

    fn of_native(blue: &str, green: &str) -> Option<Meaning> {
        let is_text = matches!(blue, "text" | "ascii");
        match green.split('(').next().unwrap_or(green).trim_end() {
            "uuid" if matches!(blue, "uuid" | "timeuuid") => Some(Meaning::Uuid),
            "text" | "character varying" if is_text => Some(Meaning::Text),
            "character" if is_text => Some(Meaning::Padded),
            "bytea" if blue == "blob" => Some(Meaning::Bytes),
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
        Meaning::Object(values) => {
            let mut out = Spelling::default();
            object(bytes, values, &mut out).map(|()| Value::Json(out.into_bytes()))
        }
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
        Meaning::Object(values) => {
            json::canonical_map(bytes.strip_prefix(&[1]).unwrap_or(bytes), values).map(Value::Json)
        }
        scalar => either(scalar, bytes),
    };
    value.unwrap_or_else(|| Value::Opaque(bytes.to_vec()))
}

/// What both protocols spell alike.
fn either(meaning: &Meaning, bytes: &[u8]) -> Option<Value> {
    match meaning {
        Meaning::Uuid => bytes.try_into().ok().map(Value::Uuid),
        Meaning::Text | Meaning::Bytes => Some(Value::Text(bytes.to_vec())),
        Meaning::Padded => Some(Value::Text(without_blanks(bytes).to_vec())),
        Meaning::Bool => match bytes {
            [byte] => Some(Value::Bool(*byte != 0)),
            _ => None,
        },
        Meaning::Int => number(bytes).map(Value::Int),
        Meaning::Float => float(bytes).map(Value::Float),
        Meaning::Json => json::canonical(bytes).map(Value::Json),
        Meaning::Instant | Meaning::Object(_) | Meaning::List(_) | Meaning::Set(_) => None,
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

fn without_blanks(bytes: &[u8]) -> &[u8] {
    let kept = bytes.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    bytes.get(..kept).unwrap_or_default()
}

/// Whether a map's values of this type can stand in a JSON object.
fn is_json(value: &CqlType) -> bool {
    match value {
        CqlType::Native(name) => {
            let known = ["text", "ascii", "int", "bigint", "boolean", "float", "double", "uuid"];
            known.contains(&name.as_str())
        }
        CqlType::List(element) | CqlType::Set(element) => is_json(element),
        CqlType::Map(key, value) => key.is("text") && is_json(value),
        CqlType::Other(_) => false,
    }
}

/// A map of blue as the object that Kong makes of it.
fn object(bytes: &[u8], values: &CqlType, out: &mut Spelling) -> Option<()> {
    let first = out.open(b'{');
    let mut members = Vec::new();
    for pair in elements(bytes, 2)?.chunks_exact(2) {
        let &[name, value] = pair else { return None };
        let name = std::str::from_utf8(name).ok()?;
        let start = out.next(first);
        out.text(name);
        out.colon();
        member(value, values, out)?;
        members.push(out.member(Cow::Borrowed(name), start));
    }
    out.close_object(first, &mut members);
    Some(())
}

fn member(bytes: &[u8], kind: &CqlType, out: &mut Spelling) -> Option<()> {
    match kind {
        CqlType::Map(_, values) => object(bytes, values, out)?,
        CqlType::List(of) | CqlType::Set(of) => {
            let first = out.open(b'[');
            let mut starts = Vec::new();
            for element in elements(bytes, 1)? {
                starts.push(out.next(first));
                member(element, of, out)?;
            }
            match kind {
                CqlType::Set(_) => out.close_set(first, &starts),
                _ => out.close_array(),
            }
        }
        CqlType::Native(name) => match name.as_str() {
            "int" | "bigint" => out.number(&number(bytes)?.to_string())?,
            "float" | "double" => out.number(&float(bytes)?.to_string())?,
            "boolean" => out.word(if bytes.first()? == &0 { "false" } else { "true" }),
            "uuid" => out.text(&uuid::Uuid::from_slice(bytes).ok()?.to_string()),
            _ => out.text(std::str::from_utf8(bytes).ok()?),
        },
        CqlType::Other(_) => return None,
    }
    Some(())
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
    fn a_map_is_an_object_whose_sets_have_no_order() {
        let meaning = Meaning::Object(CqlType::parse("frozen<set<text>>"));
        let piece = |bytes: &[u8]| [&(bytes.len() as i32).to_be_bytes(), bytes].concat();
        let set = [&2_i32.to_be_bytes()[..], &piece(b"a"), &piece(b"b")].concat();
        let map = [&1_i32.to_be_bytes()[..], &piece(b"x-h"), &piece(&set)].concat();
        let on_green = |json: &str| green(&meaning, Some(&[&[1], json.as_bytes()].concat()));
        assert!(blue(&meaning, Some(&map)).same(&on_green(r#"{"x-h": ["b", "a"]}"#)));
        assert!(!blue(&meaning, Some(&map)).same(&on_green(r#"{"x-h": ["a"]}"#)));
        assert!(!blue(&meaning, Some(&map)).same(&on_green(r#"[["x-h", ["a", "b"]]]"#)));
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
            for meaning in every_meaning() {
                blue(&meaning, Some(&bytes));
                green(&meaning, Some(&bytes));
            }
        }

        /// A count or length that promises more than there is costs no memory and no time.
        #[test]
        fn hostile_lengths_end(count in any::<i32>(), length in any::<i32>(), rest in any::<Vec<u8>>()) {
            let mut bytes = Vec::from(count.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(rest);
            for meaning in every_meaning() {
                blue(&meaning, Some(&bytes));
            }
            let mut array = [1_i32, 0, 25, count, 1, length].map(i32::to_be_bytes).concat();
            array.extend(&bytes);
            for meaning in every_meaning() {
                green(&meaning, Some(&array));
            }
        }
    }

    fn every_meaning() -> Vec<Meaning> {
        let map = CqlType::parse("map<text, frozen<map<text, frozen<set<int>>>>>");
        let headers = CqlType::parse("set<text>");
        let scalars = [
            Meaning::Uuid,
            Meaning::Text,
            Meaning::Padded,
            Meaning::Bytes,
            Meaning::Bool,
            Meaning::Int,
            Meaning::Float,
            Meaning::Instant,
            Meaning::Json,
        ];
        let several = scalars
            .iter()
            .flat_map(|one| [Meaning::List(Box::new(one.clone())), Meaning::Set(Box::new(one.clone()))]);
        let objects = [Meaning::Object(map), Meaning::Object(headers)];
        several.chain(objects).chain(scalars.clone()).collect()
    }
}
