//! JSON in a canonical form for digests: equal values have equal bytes, however they were written.
//!
//! Members are ordered by name, the last one of a name counts, and numbers and strings are the same however spelled.
//! Every value begins with a letter for its kind, and states its length or has an end mark. `jiter` reads the text and
//! gives the digits of numbers as they are written. Green's ledger keeps digests of these bytes: after a change of the
//! form the next run takes every row for a changed one.

use std::io::Write;
use std::ops::Range;

use jiter::{Jiter, Peek};
use serde_json::value::RawValue;

/// JSON nested deeper than this is digested by its text.
const MAX_DEPTH: usize = 400;

/// The canonical form of one JSON text, in memory that is reused from text to text.
#[derive(Debug, Clone, Default)]
pub struct CanonicalJson {
    out: Vec<u8>,
    /// The members of the objects that are being read, outermost first.
    members: Vec<Member>,
    /// Members while they are sorted by name.
    sorted: Vec<u8>,
    /// Where `jiter` decodes strings that have escapes.
    decoded: Vec<u8>,
}

/// Where a member was written: the whole of it, and its name.
#[derive(Debug, Clone)]
struct Member {
    whole: Range<usize>,
    name: Range<usize>,
}

impl CanonicalJson {
    /// The canonical form of this JSON. Text that cannot be read as JSON counts by its bytes.
    pub fn canonical(&mut self, text: &[u8]) -> &[u8] {
        self.out.clear();
        self.members.clear();
        let jiter = Jiter::with_tape(text, std::mem::take(&mut self.decoded));
        let mut reader = Reader { text, jiter, form: self };
        let is_json = reader.document().is_some();
        self.decoded = reader.jiter.into_tape();
        if !is_json {
            self.out.clear();
            self.out.push(b'?');
            self.out.extend_from_slice(text);
        }
        &self.out
    }

    /// Writes a value with its kind and length; returns where it was written.
    fn sized(&mut self, kind: u8, bytes: &[u8]) -> Range<usize> {
        let start = self.begin(kind);
        self.out.extend_from_slice(bytes);
        self.end(start)
    }

    /// Begins a value of this kind whose length is not known yet; returns where it begins.
    fn begin(&mut self, kind: u8) -> usize {
        self.out.push(kind);
        self.out.extend_from_slice(&[0; size_of::<u64>()]);
        self.out.len()
    }

    /// Writes the length in front of the value that began here.
    fn end(&mut self, start: usize) -> Range<usize> {
        let end = self.out.len();
        if let Some(length) = self.out.get_mut(start - size_of::<u64>()..start) {
            length.copy_from_slice(&((end - start) as u64).to_be_bytes());
        }
        start..end
    }

    /// Sorts by name the members that were written from `first` on; there were `outer` members before them.
    fn sort_members(&mut self, first: usize, outer: usize) {
        let written = self.out.as_slice();
        let name = |member: &Member| written.get(member.name.clone()).unwrap_or_default();
        let members = self.members.get_mut(outer..).unwrap_or_default();
        if !members.is_sorted_by(|member, next| name(member) < name(next)) {
            members.sort_by(|a, b| name(a).cmp(name(b)));
            self.sorted.clear();
            for (at, member) in members.iter().enumerate() {
                // The sort is stable: the last one of a name is the one that counts.
                if members.get(at + 1).is_none_or(|next| name(next) != name(member)) {
                    self.sorted.extend_from_slice(written.get(member.whole.clone()).unwrap_or_default());
                }
            }
            self.out.truncate(first);
            self.out.extend_from_slice(&self.sorted);
        }
        self.members.truncate(outer);
    }

    /// The same bytes for the same number: its digits without zeros at either end, and the power of ten.
    fn number(&mut self, number: &[u8]) -> Option<()> {
        let text = std::str::from_utf8(number).ok()?;
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.bytes().chain(part.bytes()).all(|digit| digit == b'0') {
            self.sized(b'n', b"0");
            return Some(());
        }
        let start = self.begin(b'n');
        let out = &mut self.out;
        if is_negative {
            out.push(b'-');
        }
        let first = out.len();
        let whole = whole.trim_start_matches('0');
        out.extend_from_slice(whole.as_bytes());
        out.extend_from_slice(if whole.is_empty() { part.trim_start_matches('0') } else { part }.as_bytes());
        let zeros = out.get(first..)?.iter().rev().take_while(|digit| **digit == b'0').count();
        out.truncate(out.len() - zeros);
        let power: i64 = power.parse().ok()?;
        let power =
            power.checked_sub(i64::try_from(part.len()).ok()?)?.checked_add(i64::try_from(zeros).ok()?)?;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "e{power}");
        self.end(start);
        Some(())
    }
}

/// Reads a text and writes its form; each method returns nothing where the text is not JSON.
struct Reader<'t, 'f> {
    text: &'t [u8],
    jiter: Jiter<'t>,
    form: &'f mut CanonicalJson,
}

impl Reader<'_, '_> {
    fn document(&mut self) -> Option<()> {
        let first = self.jiter.peek().ok()?;
        self.value(first, 0)?;
        self.jiter.finish().ok()
    }

    fn value(&mut self, first: Peek, depth: usize) -> Option<()> {
        match first {
            _ if depth > MAX_DEPTH => return None,
            Peek::Object => self.object(depth)?,
            Peek::Array => self.array(depth)?,
            Peek::String => drop(self.form.sized(b's', self.jiter.known_str().ok()?.as_bytes())),
            Peek::True | Peek::False => {
                let literal: &[u8] = if self.jiter.known_bool(first).ok()? { b"true" } else { b"false" };
                self.form.sized(b'w', literal);
            }
            Peek::Null => {
                self.jiter.known_null().ok()?;
                self.form.sized(b'w', b"null");
            }
            _ => self.number(first)?,
        }
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.form.out.push(b'o');
        let first = self.form.out.len();
        let outer = self.form.members.len();
        let mut name = self.jiter.known_object().ok()?;
        while let Some(text) = name {
            let start = self.form.out.len();
            let name_range = self.form.sized(b's', text.as_bytes());
            let peek = self.jiter.peek().ok()?;
            self.value(peek, depth + 1)?;
            self.form.members.push(Member { whole: start..self.form.out.len(), name: name_range });
            name = self.jiter.next_key().ok()?;
        }
        self.form.sort_members(first, outer);
        self.form.out.push(b'.');
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.form.out.push(b'a');
        let mut element = self.jiter.known_array().ok()?;
        while let Some(first) = element {
            self.value(first, depth + 1)?;
            element = self.jiter.array_step().ok()?;
        }
        self.form.out.push(b'.');
        Some(())
    }

    fn number(&mut self, first: Peek) -> Option<()> {
        let start = self.jiter.current_index();
        match self.jiter.known_number_bytes(first) {
            Ok(number) => self.form.number(number),
            Err(_) => self.long_number(start),
        }
    }

    /// `jiter` refuses integers of more than 4300 digits; PostgreSQL's `numeric` takes 131 072. What follows such a
    /// number is read as a text of its own.
    fn long_number(&mut self, start: usize) -> Option<()> {
        let rest = self.text.get(start..)?;
        let number: &RawValue = serde_json::Deserializer::from_slice(rest).into_iter().next()?.ok()?;
        let number = number.get().as_bytes();
        self.text = rest.get(number.len()..)?;
        self.jiter = Jiter::new(self.text);
        self.form.number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn digest(text: &str) -> Vec<u8> {
        CanonicalJson::default().canonical(text.as_bytes()).to_vec()
    }

    #[test]
    fn json_is_digested_by_value() {
        for (one, other) in [
            (r#"{"a":1,"b":[1.50,"x/y"]}"#, r#"{ "b" : [15e-1, "x\/y"], "a" : 1.0 }"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{"b":{"d":1,"c":[{"f":1,"e":2}]},"a":1}"#, r#"{"a":1,"b":{"c":[{"e":2,"f":1}],"d":1}}"#),
            (r#"{"b":1,"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#""\u00e4""#, r#""ä""#),
            ("-0.0", "0"),
            ("1e+15", "1000000000000000"),
        ] {
            assert_eq!(digest(one), digest(other), "{one} and {other}");
        }
        for (one, other) in [
            ("1", "\"1\""),
            ("[1,2]", "[2,1]"),
            ("{}", "[]"),
            ("0.1", "0.10000000000000000001"),
            ("null", "false"),
            ("-1", "1"),
            (r#"{"a":null}"#, "{}"),
            ("[[],[]]", "[[[]]]"),
            (r#"{"a":{"b":1}}"#, r#"{"a":{},"b":1}"#),
            (r#"["ab","c"]"#, r#"["a","bc"]"#),
            ("[1 2]", "[1,2]"),
            ("[1,,2]", "[1,2]"),
            ("[1,2,]", "[1,2]"),
            (r#"{"a":1 "b":2}"#, r#"{"a":1,"b":2}"#),
            (r#"{"a":1,}"#, r#"{"a":1}"#),
            ("01", "1"),
            ("-", "0"),
            ("1.", "1"),
        ] {
            assert_ne!(digest(one), digest(other), "{one} and {other}");
        }
    }

    #[test]
    fn text_that_is_no_json_has_a_digest_too() {
        assert_ne!(digest("{"), digest("{\"a\""));
        assert_ne!(digest(&"[".repeat(1000)), digest(&"[".repeat(1001)));
    }

    #[test]
    fn escapes_stand_for_their_characters() {
        let plain = "\u{8}\u{c}\n\r\t/\\\"\u{0}\u{e9}\u{ffff}😀";
        let escaped = r#""\b\f\n\r\t\/\\\"\u0000\u00E9\uffff\uD83D\ude00""#;
        let expected = [b"s".as_slice(), &(plain.len() as u64).to_be_bytes(), plain.as_bytes()].concat();
        assert_eq!(digest(escaped), expected);
        for broken in [
            r#""\ud800""#,
            r#""\ud800\n""#,
            r#""\ud800\u0041""#,
            r#""\udc00""#,
            r#""\u+123""#,
            r#""\x""#,
            r#""\"#,
            "1 2",
            "{\"a\"}",
            "{a\":1}",
            "1e-9223372036854775808",
            "1e99999999999999999999",
        ] {
            // Not that of any value, and not that of another such text.
            let text = [b"?", broken.as_bytes()].concat();
            let is_number = broken == "1e-9223372036854775808";
            assert_eq!(digest(broken) == text, !is_number, "{broken}");
        }
        // Beyond what is counted here: by its text, and no panic.
        assert!(digest("0.1e-9223372036854775808").starts_with(b"?"));
    }

    #[test]
    fn numbers_have_one_form() {
        for (number, form) in [
            ("0", "0"),
            ("-0.00e7", "0"),
            ("1", "1e0"),
            ("-10.50", "-105e-1"),
            ("0.00120", "12e-4"),
            ("1.5E+3", "15e2"),
            ("100", "1e2"),
        ] {
            let expected = [b"n".as_slice(), &(form.len() as u64).to_be_bytes(), form.as_bytes()].concat();
            assert_eq!(digest(number), expected, "{number}");
        }
    }

    #[test]
    fn a_number_of_many_digits_is_digested_by_value() {
        let (digits, zeros) = ("7".repeat(5000), "0".repeat(5000));
        assert_eq!(
            digest(&format!("[1{zeros} , -{digits}.50,2]")),
            digest(&format!("[1e5000,-{digits}.5,2]"))
        );
        assert_eq!(
            digest(&format!("{{\"b\":{digits},\"a\":[1{zeros}]}}")),
            digest(&format!("{{\"a\":[1e5000],\"b\":{digits}}}"))
        );
        assert!(digest(&format!("[{digits}x]")).starts_with(b"?"));
        assert!(digest(&format!("[1{zeros} 2]")).starts_with(b"?"));
    }

    #[test]
    fn memory_that_was_used_before_leaves_no_trace() {
        let mut used = CanonicalJson::default();
        for text in
            [r#"{"b":{"d":1,"c":2},"a":[1"#, r#"{"b":1,"a":{"z":1,"y":2}}"#, "[]", "{\"b\":{\"a\"", "{}"]
        {
            assert_eq!(used.canonical(text.as_bytes()), digest(text), "{text}");
        }
    }

    /// The same the plain way, of a value that was read by another reader. Its numbers are whole ones.
    fn slowly(value: &Value, out: &mut Vec<u8>) {
        let mut sized = |kind: u8, bytes: &[u8]| {
            out.push(kind);
            out.extend((bytes.len() as u64).to_be_bytes());
            out.extend(bytes);
        };
        match value {
            Value::Null | Value::Bool(_) => sized(b'w', value.to_string().as_bytes()),
            Value::String(text) => sized(b's', text.as_bytes()),
            Value::Number(number) => {
                let digits = number.to_string();
                let zeros = digits.len() - digits.trim_end_matches('0').len();
                let form = format!("{}e{zeros}", digits.trim_end_matches('0'));
                sized(b'n', if digits == "0" { b"0" } else { form.as_bytes() });
            }
            Value::Array(values) => {
                out.push(b'a');
                values.iter().for_each(|value| slowly(value, out));
                out.push(b'.');
            }
            Value::Object(members) => {
                out.push(b'o');
                let sorted: std::collections::BTreeMap<_, _> = members.iter().collect();
                for (name, value) in sorted {
                    slowly(&Value::from(name.as_str()), out);
                    slowly(value, out);
                }
                out.push(b'.');
            }
        }
    }

    /// JSON in every spelling: blanks, orders, names that come twice, escapes.
    fn spelled_somehow() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            12 => "[a-c é😀:/,]".prop_map(String::from),
            2 => "\\\\[\"\\\\/bfnrt]",
            2 => any::<char>().prop_map(|c| {
                c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }),
        ];
        let text =
            proptest::collection::vec(character, 0..12).prop_map(|all| format!("\"{}\"", all.concat()));
        let number = any::<i64>().prop_map(|number| number.to_string());
        let blank = "[ \t\n\r]{0,2}";
        let leaf =
            prop_oneof![4 => text.clone(), 2 => number, 1 => "-?[1-9]0{0,9}", 1 => "0|true|false|null"];
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
        fn agrees_with_a_value_that_serde_read(text in spelled_somehow()) {
            let mut slow = Vec::new();
            slowly(&serde_json::from_str(&text).expect("JSON"), &mut slow);
            prop_assert_eq!(digest(&text), slow, "{}", text);
        }

        #[test]
        fn arbitrary_bytes_end(text in any::<Vec<u8>>()) {
            CanonicalJson::default().canonical(&text);
        }
    }
}
