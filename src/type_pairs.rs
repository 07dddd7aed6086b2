//! Every pair of types that `mapping::conversion` converts is known to all that read its values: verify's decoders, the
//! rejects file, the checks of the stage, the injected faults and the digests of the ledger. A new pair or a new kind of
//! conversion fails here until each of them was decided.

use crate::cql::CqlType;
use crate::green::checks::prescan::{HASHED_TYPES, SHORT_TYPES};
use crate::mapping::conversion::{Conversion, SCALAR_PAIRS};
use crate::mapping::digest::ColumnDigest;
use crate::mapping::fault_injection::other_value;
use crate::mapping::row_json;
use crate::mapping::schema_map::JsonShape;
use crate::verify::cells::{self, FieldType};

/// Green's scalar types: as a column spells it, whether equal values have equal hashes, whether a value is always short
/// enough for an index, how it is digested.
const GREEN_TYPES: &[(&str, &str, bool, bool, ColumnDigest)] = &[
    ("uuid", "uuid", true, true, ColumnDigest::Plain),
    ("text", "text", true, false, ColumnDigest::Plain),
    ("character varying", "character varying(9)", false, false, ColumnDigest::Plain),
    ("character", "character(9)", false, false, ColumnDigest::Padded),
    ("smallint", "smallint", true, true, ColumnDigest::Plain),
    ("integer", "integer", true, true, ColumnDigest::Plain),
    ("bigint", "bigint", true, true, ColumnDigest::Plain),
    ("boolean", "boolean", true, true, ColumnDigest::Plain),
    ("timestamp with time zone", "timestamp with time zone", true, true, ColumnDigest::Plain),
    ("timestamp without time zone", "timestamp without time zone", false, true, ColumnDigest::Plain),
    ("real", "real", false, true, ColumnDigest::Plain),
    ("double precision", "double precision", false, true, ColumnDigest::Plain),
    ("bytea", "bytea", false, false, ColumnDigest::Plain),
];

/// A cell of blue of this scalar type.
fn sample(blue: &str) -> Vec<u8> {
    match blue {
        "uuid" | "timeuuid" => (1..17).collect(),
        "text" | "ascii" => b"abc".to_vec(),
        "int" => 1234_i32.to_be_bytes().to_vec(),
        "smallint" => 123_i16.to_be_bytes().to_vec(),
        "tinyint" => vec![12],
        "bigint" | "counter" => 123_456_i64.to_be_bytes().to_vec(),
        "boolean" => vec![1],
        "timestamp" => 1_700_000_000_123_i64.to_be_bytes().to_vec(),
        "float" => 0.25_f32.to_be_bytes().to_vec(),
        "double" => 0.25_f64.to_be_bytes().to_vec(),
        "blob" => vec![0, 255],
        other => panic!("a sample of {other}"),
    }
}

/// Verify reads the same value on both sides, and another one after a fault.
fn check_verify(blue: &CqlType, green: &str, cell: &[u8], field: &[u8]) {
    let field_type =
        FieldType::from_pair(blue, green, false).unwrap_or_else(|| panic!("verify: {blue}, {green}"));
    let expected = cells::blue(&field_type, Some(cell));
    assert_eq!(expected, cells::green(&field_type, Some(field)), "verify: {blue}, {green}");
    let altered =
        other_value(green, Some(field.to_vec())).unwrap_or_else(|| panic!("fault: {blue}, {green}"));
    assert_ne!(expected, cells::green(&field_type, altered.as_deref()), "fault: {blue}, {green}");
}

fn convert(blue: &CqlType, green: &str, cell: &[u8]) -> (Conversion, Vec<u8>) {
    let conversion =
        Conversion::between(blue, green, 25, JsonShape::Object).unwrap_or_else(|| panic!("{blue}, {green}"));
    let mut field = Vec::new();
    conversion.write(cell, &mut field).unwrap_or_else(|e| panic!("{blue}, {green}: {e:?}"));
    (conversion, field)
}

#[test]
fn every_pair_of_scalar_types_is_known_everywhere() {
    for &(blue, green, ..) in SCALAR_PAIRS {
        let known = GREEN_TYPES.iter().find(|(name, ..)| *name == green);
        let &(_, column, is_hashed, is_short, digest) = known.unwrap_or_else(|| panic!("{green} is new"));
        let cell = sample(blue);
        let (_, field) = convert(&CqlType::parse(blue), column, &cell);
        check_verify(&CqlType::parse(blue), column, &cell, &field);
        assert!(row_json::native(blue, &cell).is_ok(), "rejects file: {blue}");
        assert_eq!(HASHED_TYPES.contains(&column), is_hashed, "prescan: {column}");
        assert_eq!(SHORT_TYPES.contains(&column), is_short, "prescan: {column}");
        assert_eq!(ColumnDigest::from_type(column), digest, "digest: {column}");
    }
}

fn collection(elements: &[&[u8]]) -> Vec<u8> {
    let length = |bytes: &[u8]| i32::try_from(bytes.len()).expect("short").to_be_bytes();
    let count = i32::try_from(elements.len()).expect("few").to_be_bytes();
    let elements = elements.iter().flat_map(|element| [length(element).to_vec(), element.to_vec()].concat());
    count.into_iter().chain(elements).collect()
}

/// The kinds of conversion whose types are not one pair of scalars. The match has no wildcard: a new kind does not
/// compile before it has a place here.
#[test]
fn every_kind_of_conversion_is_known_everywhere() {
    let json = br#"{"a":[1]}"#;
    let map = [1_i32.to_be_bytes().as_slice(), &collection(&[b"k", &collection(&[b"v"])])[4..]].concat();
    let pairs: [(&str, &str, Vec<u8>); 10] = [
        ("text", "json", json.to_vec()),
        ("ascii", "jsonb", json.to_vec()),
        ("set<text>", "text[]", collection(&[b"a", b"b"])),
        ("list<uuid>", "uuid[]", collection(&[&[7; 16]])),
        ("list<text>", "jsonb[]", collection(&[json])),
        ("set<text>", "json[]", collection(&[json])),
        ("text", "jsonb[]", br#"[{"a":[1]},null]"#.to_vec()),
        ("ascii", "json[]", br#" [ "x" ] "#.to_vec()),
        ("map<text, frozen<set<text>>>", "jsonb", map.clone()),
        ("map<text, frozen<list<text>>>", "json", map),
    ];
    let mut kinds = [false; 6];
    for (blue, green, cell) in pairs {
        let blue = CqlType::parse(blue);
        let (conversion, field) = convert(&blue, green, &cell);
        let (kind, digest) = match conversion {
            Conversion::Scalar(..) => (0, ColumnDigest::Plain),
            Conversion::Json(..) => (1, ColumnDigest::Jsonb),
            Conversion::Array(..) => (2, ColumnDigest::Plain),
            Conversion::JsonArray(..) => (3, ColumnDigest::JsonbArray),
            Conversion::Object(..) => (4, ColumnDigest::Jsonb),
            Conversion::JsonElements(..) => (5, ColumnDigest::JsonbArray),
        };
        kinds[kind] = true;
        check_verify(&blue, green, &cell, &field);
        let digest = if green.starts_with("jsonb") { digest } else { ColumnDigest::Plain };
        assert_eq!(ColumnDigest::from_type(green), digest, "digest: {green}");
        // PostgreSQL has no hash of theirs that the checks rely on, and none is always short.
        assert!(!HASHED_TYPES.contains(&green) && !SHORT_TYPES.contains(&green), "prescan: {green}");
    }
    assert_eq!(kinds, [false, true, true, true, true, true]);
}
