//! From one type of CQL to one type of PostgreSQL: which pairs there are, and how the bytes of a cell become the bytes
//! of a field (docs/kong-data-model.md, 1).

use serde_json::value::RawValue;

use crate::cql::CqlType;
use crate::cql::cell::{self, Elements, Malformed};

use super::json::{JsonType, TopLevel};
use super::reason::Reason;
use super::schema_map::JsonShape;
use super::{json, pg_binary, text};

/// How one scalar cell becomes a field.
#[derive(Debug, Clone, Copy)]
pub struct Scalar {
    write: WriteScalar,
    /// Characters that the column takes. PostgreSQL itself cuts off blanks beyond them without a word.
    longest: Option<usize>,
}

impl Scalar {
    /// Appends the field, without its length.
    fn write(self, cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        (self.write)(cell, out)?;
        match self.longest {
            Some(longest) if text::characters(cell) > longest => Err(Reason::TextTooLong),
            _ => Ok(()),
        }
    }
}

/// How a cell that is not null becomes a field.
#[derive(Debug, Clone)]
pub enum Conversion {
    /// A value of fixed meaning; the name says how it is shown to people.
    Scalar(Scalar, &'static str),
    /// A JSON text.
    Json(JsonType, JsonShape),
    /// A list or set whose elements are scalars.
    Array(Scalar, u32),
    /// A list or set of JSON texts.
    JsonArray(JsonType, JsonShape, u32),
    /// A text with a JSON array, whose elements become those of an array of JSON.
    JsonElements(JsonType, u32),
    /// A map whose values become the members of a JSON object.
    Object(JsonType, CqlType),
}

impl From<Malformed> for Reason {
    fn from(_: Malformed) -> Self {
        Reason::Undecodable
    }
}

impl Conversion {
    /// The conversion for a pair of types, if there is one.
    ///
    /// `green_type` is spelled as `format_type()` does; `element_oid` is the element's type of an array.
    pub fn between(
        blue: &CqlType,
        green_type: &str,
        element_oid: u32,
        shape: JsonShape,
    ) -> Option<Conversion> {
        match blue {
            CqlType::Native(name) => match (json_type_of(green_type), is_text(name)) {
                (Some(json_type), true) => Some(Conversion::Json(json_type, shape)),
                (Some(_), false) => None,
                (None, true) if green_type.ends_with("[]") => {
                    let json_type = json_type_of(green_type.trim_end_matches("[]"))?;
                    Some(Conversion::JsonElements(json_type, element_oid))
                }
                (None, _) => scalar(name, green_type).map(|(scalar, rule)| Conversion::Scalar(scalar, rule)),
            },
            CqlType::List(element) | CqlType::Set(element) => {
                let CqlType::Native(name) = element.as_ref() else { return None };
                let green_element = green_type.strip_suffix("[]")?;
                match (json_type_of(green_element), is_text(name)) {
                    (Some(json_type), true) => Some(Conversion::JsonArray(json_type, shape, element_oid)),
                    (Some(_), false) => None,
                    (None, _) => {
                        scalar(name, green_element).map(|(scalar, _)| Conversion::Array(scalar, element_oid))
                    }
                }
            }
            CqlType::Map(key, value) => {
                let json_type = json_type_of(green_type)?;
                (key.is("text") && json_value(value))
                    .then(|| Conversion::Object(json_type, (**value).clone()))
            }
            CqlType::Other(_) => None,
        }
    }

    /// The rule in a few words, for `plan --columns`.
    pub fn describe(&self) -> &'static str {
        match self {
            Conversion::Scalar(_, rule) => rule,
            Conversion::Json(..) => "JSON text, parsed by PostgreSQL",
            Conversion::Array(..) => "elements in blue's order",
            Conversion::JsonArray(..) => "each element parsed as JSON",
            Conversion::JsonElements(..) => "the elements of the JSON array",
            Conversion::Object(..) => "map to JSON object",
        }
    }

    /// Appends the field of a cell, without its length.
    pub fn write(&self, cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        match self {
            Conversion::Scalar(scalar, _) => scalar.write(cell, out),
            Conversion::Json(json_type, shape) => write_json(cell, *json_type, *shape, out),
            Conversion::Array(scalar, oid) => {
                write_array(cell, *oid, out, |element, out| scalar.write(element, out))
            }
            Conversion::JsonArray(json_type, shape, oid) => {
                write_array(cell, *oid, out, |element, out| write_json(element, *json_type, *shape, out))
            }
            Conversion::JsonElements(json_type, oid) => write_json_elements(cell, *json_type, *oid, out),
            Conversion::Object(json_type, value) => {
                json_version(*json_type, out);
                write_object(cell, value, *json_type, out)
            }
        }
    }
}

fn is_text(name: &str) -> bool {
    matches!(name, "text" | "ascii")
}

fn json_type_of(green_type: &str) -> Option<JsonType> {
    match green_type {
        "json" => Some(JsonType::Json),
        "jsonb" => Some(JsonType::Jsonb),
        _ => None,
    }
}

/// The pairs of scalar types. `green` may carry a length, as in `character(32)`.
fn scalar(blue: &str, green: &str) -> Option<(Scalar, &'static str)> {
    let (green, length) = green.split_once('(').unwrap_or((green, ""));
    let &(_, _, write, rule) =
        SCALAR_PAIRS.iter().find(|(blue_type, green_type, ..)| *blue_type == blue && *green_type == green)?;
    let longest =
        if green.starts_with("character") { length.trim_end_matches(')').parse().ok() } else { None };
    Some((Scalar { write, longest }, rule))
}

type WriteScalar = fn(&[u8], &mut Vec<u8>) -> Result<(), Reason>;

/// A pair of scalar types: blue's, green's without a length, how the bytes are converted, and the rule in a few words.
type ScalarPair = (&'static str, &'static str, WriteScalar, &'static str);

/// All pairs of scalar types. `src/type_pairs.rs` tests that everything that reads them knows each.
pub(crate) const SCALAR_PAIRS: &[ScalarPair] = &[
    ("uuid", "uuid", uuid, "same 16 bytes"),
    ("timeuuid", "uuid", uuid, "same 16 bytes"),
    ("text", "text", write_text, "same bytes"),
    ("text", "character varying", write_text, "same bytes"),
    ("text", "character", write_text, "same bytes"),
    ("ascii", "text", write_text, "same bytes"),
    ("ascii", "character varying", write_text, "same bytes"),
    ("ascii", "character", write_text, "same bytes"),
    ("int", "integer", int_as_int4, "same number"),
    ("int", "bigint", int_as_int8, "widened"),
    ("int", "smallint", int_as_int2, "range checked"),
    ("smallint", "smallint", smallint_as_int2, "same number"),
    ("smallint", "integer", smallint_as_int4, "widened"),
    ("tinyint", "smallint", tinyint_as_int2, "widened"),
    ("bigint", "bigint", bigint_as_int8, "same number"),
    ("counter", "bigint", bigint_as_int8, "same number"),
    ("bigint", "integer", bigint_as_int4, "range checked"),
    ("counter", "integer", bigint_as_int4, "range checked"),
    ("boolean", "boolean", boolean, "same"),
    ("timestamp", "timestamp with time zone", timestamp, "same instant, to the millisecond"),
    ("timestamp", "timestamp without time zone", timestamp, "same instant, in UTC"),
    ("float", "double precision", float_as_float8, "widened"),
    ("float", "real", four_bytes, "same number"),
    ("double", "double precision", eight_bytes, "same number"),
    ("blob", "bytea", blob, "same bytes"),
];

fn exactly<const N: usize>(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let bytes: &[u8; N] = cell.try_into().map_err(|_| Reason::Undecodable)?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn uuid(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    exactly::<16>(cell, out)
}

fn four_bytes(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    exactly::<4>(cell, out)
}

fn eight_bytes(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    exactly::<8>(cell, out)
}

fn blob(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    out.extend_from_slice(cell);
    Ok(())
}

/// A text, once it is known that PostgreSQL takes it.
pub fn write_text(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    text::check(cell)?;
    out.extend_from_slice(cell);
    Ok(())
}

fn int_as_int4(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    four_bytes(cell, out)
}

fn int_as_int8(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    out.extend(i64::from(cell::int(cell)?).to_be_bytes());
    Ok(())
}

fn int_as_int2(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = i16::try_from(cell::int(cell)?).map_err(|_| Reason::NumberOutOfRange)?;
    out.extend(number.to_be_bytes());
    Ok(())
}

fn smallint_as_int2(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    exactly::<2>(cell, out)
}

fn smallint_as_int4(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = i16::from_be_bytes(cell.try_into().map_err(|_| Reason::Undecodable)?);
    out.extend(i32::from(number).to_be_bytes());
    Ok(())
}

fn tinyint_as_int2(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = i8::from_be_bytes(cell.try_into().map_err(|_| Reason::Undecodable)?);
    out.extend(i16::from(number).to_be_bytes());
    Ok(())
}

fn bigint_as_int8(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    eight_bytes(cell, out)
}

fn bigint_as_int4(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = i32::try_from(cell::bigint(cell)?).map_err(|_| Reason::NumberOutOfRange)?;
    out.extend(number.to_be_bytes());
    Ok(())
}

fn boolean(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let [byte] = cell else { return Err(Reason::Undecodable) };
    out.push(u8::from(*byte != 0));
    Ok(())
}

/// Both of PostgreSQL's timestamp types count microseconds; the one without time zone holds UTC in Kong's tables.
fn timestamp(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let microseconds = pg_binary::timestamp(cell::bigint(cell)?).ok_or(Reason::TimestampOutOfRange)?;
    out.extend(microseconds.to_be_bytes());
    Ok(())
}

fn float_as_float8(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = f32::from_be_bytes(cell.try_into().map_err(|_| Reason::Undecodable)?);
    out.extend(f64::from(number).to_be_bytes());
    Ok(())
}

fn write_array(
    cell: &[u8],
    element_oid: u32,
    out: &mut Vec<u8>,
    write: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let elements = Elements::of_collection(cell)?;
    pg_binary::array(out, element_oid, elements.left());
    for element in elements {
        let element = element?;
        pg_binary::field(out, |out| write(element, out))?;
    }
    Ok(())
}

/// jsonb's binary form begins with the version of the format, 1.
fn json_version(json_type: JsonType, out: &mut Vec<u8>) {
    if json_type == JsonType::Jsonb {
        out.push(1);
    }
}

fn write_json(cell: &[u8], json_type: JsonType, shape: JsonShape, out: &mut Vec<u8>) -> Result<(), Reason> {
    text::check(cell)?;
    let top = json::check(cell, json_type)?;
    if shape == JsonShape::Object && top != TopLevel::Object {
        return Err(Reason::JsonNotObject);
    }
    json_version(json_type, out);
    out.extend_from_slice(cell);
    Ok(())
}

/// An element `null` is a JSON null, not a null of SQL: Kong wrote a value there.
fn write_json_elements(
    cell: &[u8],
    json_type: JsonType,
    element_oid: u32,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let text = text::check(cell)?;
    json::check(cell, json_type)?;
    let elements: Vec<&RawValue> = serde_json::from_str(text).map_err(|_| Reason::JsonNotArray)?;
    pg_binary::array(out, element_oid, elements.len());
    for element in elements {
        pg_binary::field(out, |out| {
            json_version(json_type, out);
            out.extend_from_slice(element.get().as_bytes());
            Ok::<_, Reason>(())
        })?;
    }
    Ok(())
}

/// Whether values of this type can be members of a JSON object.
fn json_value(value: &CqlType) -> bool {
    match value {
        CqlType::Native(name) => {
            matches!(
                name.as_str(),
                "text" | "ascii" | "int" | "bigint" | "boolean" | "float" | "double" | "uuid"
            )
        }
        CqlType::List(element) | CqlType::Set(element) => json_value(element),
        CqlType::Map(key, value) => key.is("text") && json_value(value),
        CqlType::Other(_) => false,
    }
}

fn write_object(cell: &[u8], value: &CqlType, json_type: JsonType, out: &mut Vec<u8>) -> Result<(), Reason> {
    let mut elements = Elements::of_map(cell)?;
    out.push(b'{');
    let mut first = true;
    while let (Some(key), Some(member)) = (elements.next(), elements.next()) {
        if !first {
            out.push(b',');
        }
        first = false;
        write_json_string(key?, out)?;
        out.push(b':');
        write_json_value(member?, value, json_type, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_json_value(
    cell: &[u8],
    kind: &CqlType,
    json_type: JsonType,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    match kind {
        CqlType::Map(_, value) => write_object(cell, value, json_type, out),
        CqlType::List(element) | CqlType::Set(element) => {
            out.push(b'[');
            for (at, member) in Elements::of_collection(cell)?.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json_value(member?, element, json_type, out)?;
            }
            out.push(b']');
            Ok(())
        }
        CqlType::Native(name) => write_json_scalar(cell, name, out),
        CqlType::Other(_) => Err(Reason::Undecodable),
    }
}

fn write_json_scalar(cell: &[u8], name: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let text = match name {
        "int" => cell::int(cell)?.to_string(),
        "bigint" => cell::bigint(cell)?.to_string(),
        "boolean" => (cell.first().ok_or(Reason::Undecodable)? != &0).to_string(),
        "uuid" => uuid::Uuid::from_slice(cell).map_err(|_| Reason::Undecodable)?.to_string(),
        "float" => {
            let number = f32::from_be_bytes(cell.try_into().map_err(|_| Reason::Undecodable)?);
            json_number(f64::from(number))?
        }
        "double" => json_number(f64::from_be_bytes(cell.try_into().map_err(|_| Reason::Undecodable)?))?,
        _ => return write_json_string(cell, out),
    };
    if name == "uuid" {
        return write_json_string(text.as_bytes(), out);
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// JSON has no NaN and no infinity.
fn json_number(number: f64) -> Result<String, Reason> {
    if number.is_finite() { Ok(number.to_string()) } else { Err(Reason::JsonInvalid) }
}

fn write_json_string(cell: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
    let text = text::check(cell)?;
    serde_json::to_writer(&mut *out, text).map_err(|_| Reason::Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(blue: &str, green: &str, cell: &[u8]) -> Result<Vec<u8>, Reason> {
        let oid = 25;
        let conversion =
            Conversion::between(&CqlType::parse(blue), green, oid, JsonShape::Object).expect("a known pair");
        let mut out = Vec::new();
        conversion.write(cell, &mut out).map(|()| out)
    }

    #[test]
    fn numbers_are_widened_or_range_checked() {
        assert_eq!(convert("int", "bigint", &(-5_i32).to_be_bytes()), Ok((-5_i64).to_be_bytes().to_vec()));
        assert_eq!(convert("int", "smallint", &64_i32.to_be_bytes()), Ok(64_i16.to_be_bytes().to_vec()));
        assert_eq!(convert("int", "smallint", &40_000_i32.to_be_bytes()), Err(Reason::NumberOutOfRange));
        assert_eq!(
            convert("counter", "integer", &(1_i64 << 31).to_be_bytes()),
            Err(Reason::NumberOutOfRange)
        );
        assert_eq!(
            convert("float", "double precision", &0.1_f32.to_be_bytes()),
            Ok(f64::from(0.1_f32).to_be_bytes().to_vec())
        );
    }

    #[test]
    fn an_empty_cell_is_not_a_number() {
        for (blue, green) in [
            ("int", "integer"),
            ("timestamp", "timestamp with time zone"),
            ("uuid", "uuid"),
            ("boolean", "boolean"),
        ] {
            assert_eq!(convert(blue, green, b""), Err(Reason::Undecodable), "{blue}");
        }
        assert_eq!(convert("text", "text", b""), Ok(Vec::new()));
        assert_eq!(convert("blob", "bytea", b""), Ok(Vec::new()));
    }

    #[test]
    fn json_is_handed_over_untouched() {
        let text = br#"{"a":1e+15,"b":"\/x"}"#;
        let mut expected = vec![1];
        expected.extend(text);
        assert_eq!(convert("text", "jsonb", text), Ok(expected));
        assert_eq!(convert("text", "json", text), Ok(text.to_vec()));
        assert_eq!(convert("text", "jsonb", b"[]"), Err(Reason::JsonNotObject));
        assert_eq!(convert("text", "jsonb", b"null"), Err(Reason::JsonNotObject));
        assert_eq!(convert("text", "jsonb", b""), Err(Reason::JsonInvalid));
    }

    fn collection(elements: &[&[u8]]) -> Vec<u8> {
        let mut cell = (elements.len() as i32).to_be_bytes().to_vec();
        for element in elements {
            cell.extend((element.len() as i32).to_be_bytes());
            cell.extend(*element);
        }
        cell
    }

    #[test]
    fn headers_become_an_object_of_arrays() {
        let values = collection(&[b"a", b"b\"c"]);
        let mut cell = 2_i32.to_be_bytes().to_vec();
        for part in [b"x-one".as_slice(), &values, b"x-two", &collection(&[])] {
            cell.extend((part.len() as i32).to_be_bytes());
            cell.extend(part);
        }
        let out = convert("map<text, frozen<set<text>>>", "jsonb", &cell).unwrap();
        assert_eq!(out, b"\x01{\"x-one\":[\"a\",\"b\\\"c\"],\"x-two\":[]}");
    }

    #[test]
    fn a_text_with_a_json_array_becomes_its_elements() {
        let out = convert("text", "jsonb[]", br#" [{"kid": "a"}, null, 1e400] "#).unwrap();
        let elements = [br#"{"kid": "a"}"#.as_slice(), b"null", b"1e400"];
        let mut expected = Vec::new();
        pg_binary::array(&mut expected, 25, elements.len());
        for element in elements {
            expected.extend((element.len() as i32 + 1).to_be_bytes());
            expected.push(1);
            expected.extend(element);
        }
        assert_eq!(out, expected);
        assert_eq!(convert("text", "json[]", b"[]").unwrap().len(), 12);
        assert_eq!(convert("text", "jsonb[]", b"{}"), Err(Reason::JsonNotArray));
        assert_eq!(convert("text", "jsonb[]", b"null"), Err(Reason::JsonNotArray));
        assert_eq!(convert("text", "jsonb[]", br#"["\u0000"]"#), Err(Reason::JsonInvalid));
        assert_eq!(convert("text", "jsonb[]", b"[1"), Err(Reason::JsonInvalid));
        assert_eq!(convert("text", "jsonb[]", b""), Err(Reason::JsonInvalid));
    }

    #[test]
    fn a_text_too_long_is_found_even_where_postgres_would_only_cut_blanks_off() {
        assert_eq!(convert("text", "character varying(3)", "日本é".as_bytes()), Ok("日本é".into()));
        for text in ["abcd", "abc ", "日本é "] {
            assert_eq!(convert("text", "character varying(3)", text.as_bytes()), Err(Reason::TextTooLong));
            assert_eq!(convert("ascii", "character(3)", text.as_bytes()), Err(Reason::TextTooLong));
        }
        assert_eq!(convert("text", "character varying", "abcd".as_bytes()), Ok("abcd".into()));
    }

    #[test]
    fn pairs_without_a_rule_have_no_conversion() {
        let none = |blue: &str, green: &str| {
            Conversion::between(&CqlType::parse(blue), green, 0, JsonShape::Object).is_none()
        };
        assert!(none("text", "uuid"));
        assert!(none("text", "text[]"));
        assert!(none("int", "text"));
        assert!(none("set<text>", "text"));
        assert!(none("set<int>", "jsonb[]"));
        assert!(none("varint", "bigint"));
        assert!(none("map<int, text>", "jsonb"));
    }
}
