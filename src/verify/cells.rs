//! Decodes the bytes of either database into values. Every length is checked against the bytes that are there.

use super::json;
use super::json_writer::JsonWriter;
use super::value::KongValue;
use crate::cql::CqlType;

/// Microseconds between 1970, where Cassandra counts from, and 2000, where PostgreSQL does.
const EPOCH_2000: i64 = 946_684_800_000_000;

/// The type of a column as Kong sees it, common to both databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldType {
    Uuid,
    Text,
    Bool,
    Int,
    Float,
    Instant,
    Json,
    /// A JSON array in a text on blue, an array of JSON on green.
    JsonElements,
    /// `character(n)`, which PostgreSQL pads with blanks.
    Padded,
    Bytes,
    /// A map on blue, a JSON object on green; the type is that of the map's values, whose sets have no order.
    Object(CqlType),
    List(Box<FieldType>),
    Set(Box<FieldType>),
}

impl FieldType {
    /// The type of a pair of columns; `is_ordered` where blue's set is a list to Kong. `None` for an unknown pair.
    pub(crate) fn from_pair(blue: &CqlType, green: &str, is_ordered: bool) -> Option<FieldType> {
        match blue {
            CqlType::Native(name) => FieldType::from_native(name, green),
            CqlType::List(element) | CqlType::Set(element) => {
                let element = Box::new(FieldType::from_pair(element, green.strip_suffix("[]")?, is_ordered)?);
                let is_list = is_ordered || matches!(blue, CqlType::List(_));
                Some(if is_list { FieldType::List(element) } else { FieldType::Set(element) })
            }
            CqlType::Map(key, value) => {
                (matches!(green, "json" | "jsonb") && key.is("text") && has_json_form(value))
                    .then(|| FieldType::Object((**value).clone()))
            }
            CqlType::Other(_) => None,
        }
    }

    fn from_native(blue: &str, green: &str) -> Option<FieldType> {
        let is_text = matches!(blue, "text" | "ascii");
        match green.split('(').next().unwrap_or(green).trim_end() {
            "uuid" if matches!(blue, "uuid" | "timeuuid") => Some(FieldType::Uuid),
            "text" | "character varying" if is_text => Some(FieldType::Text),
            "character" if is_text => Some(FieldType::Padded),
            "bytea" if blue == "blob" => Some(FieldType::Bytes),
            "json" | "jsonb" if is_text => Some(FieldType::Json),
            "json[]" | "jsonb[]" if is_text => Some(FieldType::JsonElements),
            "boolean" if blue == "boolean" => Some(FieldType::Bool),
            "smallint" | "integer" | "bigint"
                if matches!(blue, "tinyint" | "smallint" | "int" | "bigint" | "counter") =>
            {
                Some(FieldType::Int)
            }
            "real" | "double precision" if matches!(blue, "float" | "double") => Some(FieldType::Float),
            other if other.starts_with("timestamp") && blue == "timestamp" => Some(FieldType::Instant),
            _ => None,
        }
    }
}

pub(crate) fn blue(field_type: &FieldType, cell: Option<&[u8]>) -> KongValue {
    let Some(bytes) = cell else { return KongValue::Null };
    let value = match field_type {
        FieldType::Instant => number(bytes).and_then(|ms| ms.checked_mul(1000)).map(KongValue::Instant),
        FieldType::List(element) => elements(bytes, 1)
            .map(|cells| KongValue::List(cells.into_iter().map(|cell| blue(element, Some(cell))).collect())),
        FieldType::Set(element) => elements(bytes, 1)
            .map(|cells| KongValue::Set(cells.into_iter().map(|cell| blue(element, Some(cell))).collect())),
        FieldType::JsonElements => common(&FieldType::Json, bytes).filter(is_array),
        FieldType::Object(values) => {
            let mut out = JsonWriter::default();
            object(bytes, values, &mut out).map(|()| KongValue::Json(out.into_bytes()))
        }
        scalar => common(scalar, bytes),
    };
    value.unwrap_or_else(|| KongValue::Opaque(bytes.to_vec()))
}

/// Decodes a field of green in PostgreSQL's binary form.
pub(crate) fn green(field_type: &FieldType, field: Option<&[u8]>) -> KongValue {
    let Some(bytes) = field else { return KongValue::Null };
    let value = match field_type {
        FieldType::Instant => number(bytes).and_then(|us| us.checked_add(EPOCH_2000)).map(KongValue::Instant),
        FieldType::List(element) => array(bytes)
            .map(|all| KongValue::List(all.into_iter().map(|field| green(element, field)).collect())),
        FieldType::Set(element) => array(bytes)
            .map(|all| KongValue::Set(all.into_iter().map(|field| green(element, field)).collect())),
        FieldType::JsonElements => array(bytes).and_then(|elements| json_array(&elements)),
        // jsonb begins with a version byte, with which no JSON text begins.
        FieldType::Json => common(field_type, bytes.strip_prefix(&[1]).unwrap_or(bytes)),
        FieldType::Object(values) => {
            json::canonical_map(bytes.strip_prefix(&[1]).unwrap_or(bytes), values).map(KongValue::Json)
        }
        scalar => common(scalar, bytes),
    };
    value.unwrap_or_else(|| KongValue::Opaque(bytes.to_vec()))
}

fn is_array(value: &KongValue) -> bool {
    matches!(value, KongValue::Json(text) if text.starts_with(b"["))
}

/// The JSON array with the elements of one of green's arrays, in its canonical form.
fn json_array(elements: &[Option<&[u8]>]) -> Option<KongValue> {
    let mut text = b"[".to_vec();
    for (place, element) in elements.iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        // jsonb begins with a version byte, with which no JSON text begins.
        let json = (*element)?;
        text.extend(json::canonical(json.strip_prefix(&[1]).unwrap_or(json))?);
    }
    text.push(b']');
    Some(KongValue::Json(text))
}

/// Decodes what has the same bytes in both protocols.
fn common(field_type: &FieldType, bytes: &[u8]) -> Option<KongValue> {
    match field_type {
        FieldType::Uuid => bytes.try_into().ok().map(KongValue::Uuid),
        FieldType::Text | FieldType::Bytes => Some(KongValue::Text(bytes.to_vec())),
        FieldType::Padded => Some(KongValue::Text(without_blanks(bytes).to_vec())),
        FieldType::Bool => match bytes {
            [byte] => Some(KongValue::Bool(*byte != 0)),
            _ => None,
        },
        FieldType::Int => number(bytes).map(KongValue::Int),
        FieldType::Float => float(bytes).map(KongValue::Float),
        FieldType::Json => json::canonical(bytes).map(KongValue::Json),
        FieldType::Instant
        | FieldType::JsonElements
        | FieldType::Object(_)
        | FieldType::List(_)
        | FieldType::Set(_) => None,
    }
}

/// A big-endian integer of one, two, four or eight bytes.
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

/// Splits off a four-byte length and that many bytes; a negative length is null.
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

/// The elements of a collection of Cassandra; `per_entry` is 2 for a map, whose keys and values alternate.
fn elements(mut bytes: &[u8], per_entry: usize) -> Option<Vec<&[u8]>> {
    let (count, rest) = bytes.split_at_checked(4)?;
    bytes = rest;
    let count = usize::try_from(number(count)?).ok()?.checked_mul(per_entry)?;
    // Without with_capacity: the count is not checked yet.
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(take(&mut bytes)??);
    }
    bytes.is_empty().then_some(all)
}

/// The elements of a one-dimensional array of PostgreSQL.
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

/// Whether values of this type have a form in JSON.
fn has_json_form(value: &CqlType) -> bool {
    match value {
        CqlType::Native(name) => {
            let known = ["text", "ascii", "int", "bigint", "boolean", "float", "double", "uuid"];
            known.contains(&name.as_str())
        }
        CqlType::List(element) | CqlType::Set(element) => has_json_form(element),
        CqlType::Map(key, value) => key.is("text") && has_json_form(value),
        CqlType::Other(_) => false,
    }
}

/// Writes a map of blue as the JSON object that Kong makes of it.
fn object(bytes: &[u8], values: &CqlType, out: &mut JsonWriter) -> Option<()> {
    let content = out.open(b'{');
    let mut members = Vec::new();
    for pair in elements(bytes, 2)?.chunks_exact(2) {
        let &[name, value] = pair else { return None };
        let name = std::str::from_utf8(name).ok()?;
        let start = out.next(content);
        let name_end = out.name(name);
        member(value, values, out)?;
        members.push(out.member(start, name_end));
    }
    out.close_object(content, &mut members);
    Some(())
}

fn member(bytes: &[u8], kind: &CqlType, out: &mut JsonWriter) -> Option<()> {
    match kind {
        CqlType::Map(_, values) => object(bytes, values, out)?,
        CqlType::List(element_type) | CqlType::Set(element_type) => {
            let content = out.open(b'[');
            let mut starts = Vec::new();
            for element in elements(bytes, 1)? {
                starts.push(out.next(content));
                member(element, element_type, out)?;
            }
            match kind {
                CqlType::Set(_) => out.close_set(content, &starts),
                _ => out.close_array(),
            }
        }
        CqlType::Native(name) => match name.as_str() {
            "int" | "bigint" => out.number(&number(bytes)?.to_string())?,
            "float" | "double" => out.number(&float(bytes)?.to_string())?,
            "boolean" => out.literal(if bytes.first()? == &0 { "false" } else { "true" }),
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
    fn an_instant_is_equal_on_both_sides() {
        let on_blue = 1_700_000_000_123_i64.to_be_bytes();
        let on_green = (1_700_000_000_123_000_i64 - EPOCH_2000).to_be_bytes();
        assert_eq!(blue(&FieldType::Instant, Some(&on_blue)), green(&FieldType::Instant, Some(&on_green)));
    }

    #[test]
    fn a_map_is_an_object_whose_sets_have_no_order() {
        let field_type = FieldType::Object(CqlType::parse("frozen<set<text>>"));
        let element = |bytes: &[u8]| [&(bytes.len() as i32).to_be_bytes(), bytes].concat();
        let set = [&2_i32.to_be_bytes()[..], &element(b"a"), &element(b"b")].concat();
        let map = [&1_i32.to_be_bytes()[..], &element(b"x-h"), &element(&set)].concat();
        let on_green = |json: &str| green(&field_type, Some(&[&[1], json.as_bytes()].concat()));
        assert!(blue(&field_type, Some(&map)).same(&on_green(r#"{"x-h": ["b", "a"]}"#)));
        assert!(!blue(&field_type, Some(&map)).same(&on_green(r#"{"x-h": ["a"]}"#)));
        assert!(!blue(&field_type, Some(&map)).same(&on_green(r#"[["x-h", ["a", "b"]]]"#)));
    }

    #[test]
    fn integers_of_any_width_are_equal() {
        assert_eq!(
            blue(&FieldType::Int, Some(&7_i32.to_be_bytes())),
            green(&FieldType::Int, Some(&7_i64.to_be_bytes()))
        );
        assert_eq!(green(&FieldType::Int, Some(&(-1_i16).to_be_bytes())), KongValue::Int(-1));
    }

    proptest! {
        #[test]
        fn hostile_bytes_neither_panic_nor_hang(bytes in any::<Vec<u8>>()) {
            for field_type in every_field_type() {
                blue(&field_type, Some(&bytes));
                green(&field_type, Some(&bytes));
            }
        }

        /// A count or length that promises more than there is costs no memory and no time.
        #[test]
        fn hostile_lengths_neither_panic_nor_hang(count in any::<i32>(), length in any::<i32>(), rest in any::<Vec<u8>>()) {
            let mut bytes = Vec::from(count.to_be_bytes());
            bytes.extend(length.to_be_bytes());
            bytes.extend(rest);
            for field_type in every_field_type() {
                blue(&field_type, Some(&bytes));
            }
            let mut array = [1_i32, 0, 25, count, 1, length].map(i32::to_be_bytes).concat();
            array.extend(&bytes);
            for field_type in every_field_type() {
                green(&field_type, Some(&array));
            }
        }
    }

    fn every_field_type() -> Vec<FieldType> {
        let map = CqlType::parse("map<text, frozen<map<text, frozen<set<int>>>>>");
        let headers = CqlType::parse("set<text>");
        let scalars = [
            FieldType::Uuid,
            FieldType::Text,
            FieldType::Padded,
            FieldType::Bytes,
            FieldType::Bool,
            FieldType::Int,
            FieldType::Float,
            FieldType::Instant,
            FieldType::Json,
        ];
        let several = scalars.iter().flat_map(|scalar| {
            [FieldType::List(Box::new(scalar.clone())), FieldType::Set(Box::new(scalar.clone()))]
        });
        let objects = [FieldType::Object(map), FieldType::Object(headers)];
        several.chain(objects).chain(scalars.clone()).collect()
    }
}
