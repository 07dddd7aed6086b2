//! The canonical form of a JSON text, as PostgreSQL's jsonb compares: members sorted, the last of equal names, numbers by
//! value.
//!
//! `jiter` reads the text and gives the digits of a number as they are written: a number must not pass through a float.
//! The form goes straight into one buffer, because a row may hold much JSON.

use jiter::{Jiter, Peek};
use serde::de::IgnoredAny;

use super::json_writer::{JsonWriter, WrittenMember};
use crate::cql::CqlType;

/// Kong's own encoder refuses deeper nesting.
const MAX_DEPTH: usize = 1000;

/// What a JSON value stands for on blue, which says which of its arrays have no order.
#[derive(Debug, Clone, Copy)]
enum BlueShape<'t> {
    Untyped,
    /// A map with values of this type.
    MapOf(&'t CqlType),
    Typed(&'t CqlType),
}

impl BlueShape<'_> {
    fn of_member(self) -> Self {
        match self {
            BlueShape::MapOf(values) => BlueShape::Typed(values),
            BlueShape::Typed(CqlType::Map(_, values)) => BlueShape::Typed(values),
            _ => BlueShape::Untyped,
        }
    }

    fn of_element(self) -> Self {
        match self {
            BlueShape::Typed(CqlType::List(element) | CqlType::Set(element)) => BlueShape::Typed(element),
            _ => BlueShape::Untyped,
        }
    }

    fn is_set(self) -> bool {
        matches!(self, BlueShape::Typed(CqlType::Set(_)))
    }
}

/// The canonical form of a JSON text; `None` where it is not JSON.
pub fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    read(text, BlueShape::Untyped)
}

/// The same of an object that is a map on blue, with values of this type: their sets have no order.
pub(super) fn canonical_map(text: &[u8], values: &CqlType) -> Option<Vec<u8>> {
    read(text, BlueShape::MapOf(values))
}

fn read(text: &[u8], shape: BlueShape<'_>) -> Option<Vec<u8>> {
    let (jiter, writer) = (Jiter::new(text), JsonWriter::with_capacity(text.len()));
    let mut reader = JsonReader { text, jiter, writer, members: Vec::new() };
    let first = reader.jiter.peek().ok()?;
    reader.value(first, shape, 1)?;
    reader.jiter.finish().ok()?;
    Some(reader.writer.into_bytes())
}

/// Each method returns `None` where the text is not JSON.
struct JsonReader<'t> {
    text: &'t [u8],
    jiter: Jiter<'t>,
    writer: JsonWriter,
    /// The members of the objects that are being read, outermost first.
    members: Vec<WrittenMember>,
}

impl JsonReader<'_> {
    fn value(&mut self, first: Peek, shape: BlueShape<'_>, depth: usize) -> Option<()> {
        match first {
            _ if depth > MAX_DEPTH => return None,
            Peek::Object => self.object(shape, depth)?,
            Peek::Array => self.array(shape, depth)?,
            Peek::String => self.writer.text(self.jiter.known_str().ok()?),
            Peek::Null => {
                self.jiter.known_null().ok()?;
                self.writer.literal("null");
            }
            Peek::True | Peek::False => {
                let value = self.jiter.known_bool(first).ok()?;
                self.writer.literal(if value { "true" } else { "false" });
            }
            _ => self.number(first)?,
        }
        Some(())
    }

    fn array(&mut self, shape: BlueShape<'_>, depth: usize) -> Option<()> {
        let content = self.writer.open(b'[');
        let mut starts = Vec::new();
        let mut element = self.jiter.known_array().ok()?;
        while let Some(first) = element {
            let start = self.writer.next(content);
            if shape.is_set() {
                starts.push(start);
            }
            self.value(first, shape.of_element(), depth + 1)?;
            element = self.jiter.array_step().ok()?;
        }
        if shape.is_set() {
            self.writer.close_set(content, &starts);
        } else {
            self.writer.close_array();
        }
        Some(())
    }

    fn object(&mut self, shape: BlueShape<'_>, depth: usize) -> Option<()> {
        let content = self.writer.open(b'{');
        let outer = self.members.len();
        let mut name = self.jiter.known_object().ok()?;
        while let Some(text) = name {
            let start = self.writer.next(content);
            let name_end = self.writer.name(text);
            let first = self.jiter.peek().ok()?;
            self.value(first, shape.of_member(), depth + 1)?;
            self.members.push(self.writer.member(start, name_end));
            name = self.jiter.next_key().ok()?;
        }
        self.writer.close_object(content, self.members.get_mut(outer..)?);
        self.members.truncate(outer);
        Some(())
    }

    fn number(&mut self, first: Peek) -> Option<()> {
        let start = self.jiter.current_index();
        if let Ok(number) = self.jiter.known_number_bytes(first) {
            return self.writer.number(std::str::from_utf8(number).ok()?);
        }
        // jiter refuses more than 4300 digits, which PostgreSQL takes: the text after the number is read anew.
        let rest = self.text.get(start..)?;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let (number, rest) = rest.split_at(rest.iter().take_while(|byte| is_part(byte)).count());
        serde_json::from_slice::<IgnoredAny>(number).ok()?;
        (self.text, self.jiter) = (rest, Jiter::new(rest));
        self.writer.number(std::str::from_utf8(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
    use serde_json::value::RawValue;

    use super::*;

    /// All members, also those of equal names.
    struct Members<'t>(Vec<(String, &'t RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct MembersVisitor;
            impl<'de> Visitor<'de> for MembersVisitor {
                type Value = Members<'de>;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(MembersVisitor)
        }
    }

    /// The same form by way of another parser and a tree, in the plainest code: what [`canonical`] must agree with.
    fn judge(text: &[u8], shape: BlueShape<'_>, depth: usize) -> Option<String> {
        let raw: &RawValue = serde_json::from_slice(text).ok()?;
        let raw = raw.get();
        match raw.as_bytes().first()? {
            _ if depth > MAX_DEPTH => None,
            b'{' => {
                let Members(members) = serde_json::from_str(raw).ok()?;
                let mut forms = BTreeMap::new();
                for (name, value) in members {
                    let value = judge(value.get().as_bytes(), shape.of_member(), depth + 1)?;
                    forms.insert(serde_json::to_string(&name).ok()?, value);
                }
                let forms: Vec<String> =
                    forms.into_iter().map(|(name, value)| format!("{name}:{value}")).collect();
                Some(format!("{{{}}}", forms.join(",")))
            }
            b'[' => {
                let elements: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
                let form = |value: &&RawValue| judge(value.get().as_bytes(), shape.of_element(), depth + 1);
                let mut forms: Vec<String> = elements.iter().map(form).collect::<Option<_>>()?;
                if shape.is_set() {
                    forms.sort();
                }
                Some(format!("[{}]", forms.join(",")))
            }
            b'"' => serde_json::to_string(&serde_json::from_str::<String>(raw).ok()?).ok(),
            b't' | b'f' | b'n' => Some(raw.to_owned()),
            _ => number(raw),
        }
    }

    /// A number by its value, with the arithmetic done on strings.
    fn number(text: &str) -> Option<String> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let mut power: i64 = exponent.parse().ok()?;
        let negative = mantissa.starts_with('-');
        let (whole, fraction) = mantissa
            .trim_start_matches('-')
            .split_once('.')
            .unwrap_or((mantissa.trim_start_matches('-'), ""));
        power = power.checked_sub(fraction.len() as i64)?;
        let mut digits = format!("{whole}{fraction}").trim_start_matches('0').to_owned();
        while digits.ends_with('0') {
            digits.pop();
            power = power.checked_add(1)?;
        }
        let sign = if negative { "-" } else { "" };
        Some(match (digits.as_str(), power) {
            ("", _) => "0".to_owned(),
            (digits, 0) => format!("{sign}{digits}"),
            (digits, power) => format!("{sign}{digits}e{power}"),
        })
    }

    fn judged(text: &[u8]) -> Option<Vec<u8>> {
        judge(text, BlueShape::Untyped, 1).map(String::into_bytes)
    }

    fn is_equal(one: &str, other: &str) -> bool {
        canonical(one.as_bytes()).expect(one) == canonical(other.as_bytes()).expect(other)
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (one, other) in [("1", "1.0"), ("10", "1e1"), ("0.5", "5E-1"), ("-0", "0"), ("100", "1.00e2")] {
            assert!(is_equal(one, other), "{one} {other}");
        }
        assert!(!is_equal("9007199254740993", "9007199254740992"), "beyond the precision of a float");
        assert!(!is_equal("1", "\"1\""));
        assert!(!is_equal("1", "-1"));
    }

    #[test]
    fn numbers_may_have_as_many_digits_as_postgresql_takes() {
        let digits = "1".repeat(100_000);
        for text in [format!("{digits}.5"), format!("[{digits} ,{digits}]"), format!("{{\"a\":{digits}}}")] {
            assert!(canonical(text.as_bytes()).is_some());
            assert_eq!(canonical(text.as_bytes()), judged(text.as_bytes()));
        }
        assert!(is_equal(&format!("[-{digits}.50,2]"), &format!("[-{digits}.5,2.0]")));
        assert_eq!(canonical(format!("[{digits}.]").as_bytes()), None);
    }

    #[test]
    fn members_have_no_order_and_the_last_one_counts() {
        assert!(is_equal(r#"{"a":1,"b":[1,2]}"#, r#" { "b" : [1, 2], "a" : 1.0 } "#));
        assert!(is_equal(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(!is_equal("[1,2]", "[2,1]"));
        assert!(!is_equal("[]", "{}"));
    }

    #[test]
    fn strings_are_compared_without_their_escapes() {
        assert!(is_equal(r#""a\/bé😀\n""#, "\"a/b\\u00e9\\ud83d\\ude00\\u000a\""));
    }

    #[test]
    fn text_that_is_not_json_has_no_form() {
        for text in ["", "{", "[1,]", "nan", "\"\\ud800\"", "{\"a\"}", "1 2", "\u{1}"] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
        assert_eq!(canonical("[".repeat(5000).as_bytes()), None);
    }

    #[test]
    fn escapes_and_corner_cases_are_read_as_the_judge_reads_them() {
        for text in [
            r#""\u00e9\u00E9\ud83d\ude00\uD83D\uDE00""#,
            r#""\u0000\u0001\u001f\u0020\u007f\u2028""#,
            r#""\b\f\n\r\t\/\\\"""#,
            r#""\u005c\u0022\u002f""#,
            r#"{"\u0061":1,"a":2,"b\"":3,"b!":4,"\n":5,"\u000a":6,"é":7,"\u00e9":8}"#,
            r#"{"b":{"d":1,"c":[{"f":1,"e":2}]},"a":1,"b":{}}"#,
            r#"{"a":{"b":1,"a":2},"":[],"a":{"z":1,"y":{"b":1,"a":2}}}"#,
            "[-0,-0.0,1E+2,0.00001200]",
            " [ ] ",
            "{ }",
            "{\"a\" :\t1\r\n}",
        ] {
            assert!(canonical(text.as_bytes()).is_some(), "{text}");
            assert_eq!(canonical(text.as_bytes()), judged(text.as_bytes()), "{text}");
        }
        for text in [
            r#""\ud800""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            r#""\u12g4""#,
            r#""\u123"#,
            r#""\u+123""#,
            r#""\x""#,
            r#""\"#,
            r#""\é""#,
            "\"raw \u{1} \t \n\"",
            "[1}",
            "[,1]",
            "{\"a\":1,}",
            "{,}",
            "{1:1}",
            "[1 2]",
            "truefalse",
            "[01]",
            "[1.]",
            "[+1]",
            "[.5]",
            "[1e]",
            "[--1]",
            "[1e99999999999999999999]",
        ] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
            assert_eq!(judged(text.as_bytes()), None, "{text}");
        }
        assert_eq!(canonical(b"\"\xff\""), None);
    }

    #[test]
    fn nesting_is_read_up_to_its_limit() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
            assert!(canonical(nested(999).as_bytes()).is_some());
            assert_eq!(canonical(nested(1000).as_bytes()), None);
        }
    }

    /// JSON in many forms: blanks, orders, names that come twice, escapes, numbers.
    fn json_text() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            12 => "[a-c é😀:/,]".prop_map(String::from),
            2 => "\\\\[\"\\\\/bfnrt]",
            2 => any::<u16>().prop_map(|unit| format!("\\u{unit:04x}")),
            1 => any::<char>().prop_map(|c| {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }),
        ];
        let text =
            proptest::collection::vec(character, 0..12).prop_map(|all| format!("\"{}\"", all.concat()));
        let number = "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,4})?([eE][-+]?[0-9]{1,3})?";
        let blank = "[ \t\n\r]{0,2}";
        let leaf = prop_oneof![4 => text.clone(), 2 => number, 1 => "true|false|null"];
        leaf.prop_recursive(5, 40, 6, move |inner| {
            let padded = (blank, inner, blank).prop_map(|(before, value, after)| before + &value + &after);
            let name = prop_oneof!["\"[a-c]{0,2}\"", text.clone()];
            let member = (blank, name, blank, padded.clone())
                .prop_map(|(before, name, after, value)| format!("{before}{name}{after}:{value}"));
            prop_oneof![
                proptest::collection::vec(padded, 0..6).prop_map(|all| format!("[{}]", all.join(","))),
                proptest::collection::vec(member, 0..6).prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_have_the_judges_form(text in any::<Vec<u8>>()) {
            prop_assert_eq!(canonical(&text), judged(&text));
        }

        #[test]
        fn json_has_the_judges_form(text in json_text()) {
            prop_assert_eq!(canonical(text.as_bytes()), judged(text.as_bytes()), "{}", text);
        }

        #[test]
        fn broken_json_has_no_form(text in r#"[\[\]{}:,"\\u0-9a-f.eE+\- tnl]{0,24}"#) {
            prop_assert_eq!(canonical(text.as_bytes()), judged(text.as_bytes()), "{}", text);
        }

        #[test]
        fn sets_within_maps_have_the_judges_form(text in json_text()) {
            for values in ["frozen<set<text>>", "frozen<map<text, frozen<set<text>>>>", "frozen<list<frozen<set<int>>>>"] {
                let values = CqlType::parse(values);
                let form = judge(text.as_bytes(), BlueShape::MapOf(&values), 1).map(String::into_bytes);
                prop_assert_eq!(canonical_map(text.as_bytes(), &values), form, "{}", text);
            }
        }

        #[test]
        fn the_form_of_a_form_is_itself(text in json_text()) {
            if let Some(form) = canonical(text.as_bytes()) {
                prop_assert_eq!(canonical(&form), Some(form));
            }
        }
    }
}
