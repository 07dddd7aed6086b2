//! JSON as the bytes that a digest is taken over: equal values have equal bytes, however they were written.
//!
//! Members stand in the order of their names, the last one of a name counts, numbers and strings are the same however
//! spelled. Every value begins with a letter for its kind, and says how long it is or where it ends. Green's ledger
//! keeps digests of these bytes: whoever changes them has every row taken for a changed one at the next run.

use std::io::Write;
use std::ops::Range;

use super::json;

/// JSON nested deeper than this is digested by its text.
const DEEPEST: usize = 400;

/// The form by value, in memory that goes from text to text.
#[derive(Debug, Clone, Default)]
pub struct CanonicalJson {
    out: Vec<u8>,
    /// The members of the objects that are being read, outermost first.
    members: Vec<Member>,
    /// Members on their way into the order of their names.
    sorted: Vec<u8>,
}

/// A member as it was written: the whole of it, and its name.
#[derive(Debug, Clone)]
struct Member {
    whole: Range<usize>,
    name: Range<usize>,
}

impl CanonicalJson {
    /// This JSON by its value. What cannot be read as JSON counts by its bytes.
    pub fn canonical(&mut self, text: &[u8]) -> &[u8] {
        self.out.clear();
        self.members.clear();
        let mut reader = Reader { bytes: text, at: 0, to: self };
        if reader.document().is_none() {
            self.out.clear();
            self.out.push(b'?');
            self.out.extend_from_slice(text);
        }
        &self.out
    }

    /// Writes something with its kind and length; says where it stands.
    fn sized(&mut self, kind: u8, bytes: &[u8]) {
        let start = self.begin(kind);
        self.out.extend_from_slice(bytes);
        self.end(start);
    }

    /// Begins something of this kind whose length is not known yet; says where it begins.
    fn begin(&mut self, kind: u8) -> usize {
        self.out.push(kind);
        self.out.extend_from_slice(&[0; size_of::<u64>()]);
        self.out.len()
    }

    /// Puts the length in front of what began here.
    fn end(&mut self, start: usize) -> Range<usize> {
        let end = self.out.len();
        if let Some(length) = self.out.get_mut(start - size_of::<u64>()..start) {
            length.copy_from_slice(&((end - start) as u64).to_be_bytes());
        }
        start..end
    }

    /// Puts the members that stand at the end of what was written, from `first` on, in the order of their names; there
    /// were `outer` members before them.
    fn in_order(&mut self, first: usize, outer: usize) {
        let written = self.out.as_slice();
        let name = |member: &Member| written.get(member.name.clone()).unwrap_or_default();
        let members = self.members.get_mut(outer..).unwrap_or_default();
        if !members.is_sorted_by(|one, next| name(one) < name(next)) {
            members.sort_by(|one, other| name(one).cmp(name(other)));
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
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    to: &'a mut CanonicalJson,
}

impl Reader<'_> {
    fn document(&mut self) -> Option<()> {
        self.value(0)?;
        self.blank();
        (self.at == self.bytes.len()).then_some(())
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        self.blank();
        match self.bytes.get(self.at)? {
            _ if depth > DEEPEST => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number(),
            _ => {
                let rest = self.bytes.get(self.at..)?;
                let word =
                    ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()))?;
                self.at += word.len();
                self.to.sized(b'w', word.as_bytes());
                Some(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.to.out.push(b'o');
        let first = self.to.out.len();
        let outer = self.to.members.len();
        self.at += 1;
        loop {
            self.blank();
            match self.bytes.get(self.at)? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let start = self.to.out.len();
                    let name = self.string()?;
                    self.blank();
                    (self.next()? == b':').then_some(())?;
                    self.value(depth + 1)?;
                    self.to.members.push(Member { whole: start..self.to.out.len(), name });
                }
            }
        }
        self.at += 1;
        self.to.in_order(first, outer);
        self.to.out.push(b'.');
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.to.out.push(b'a');
        self.at += 1;
        loop {
            self.blank();
            match self.bytes.get(self.at)? {
                b']' => break,
                b',' => self.at += 1,
                _ => self.value(depth + 1)?,
            }
        }
        self.at += 1;
        self.to.out.push(b'.');
        Some(())
    }

    /// Where its characters were written.
    fn string(&mut self) -> Option<Range<usize>> {
        (self.next()? == b'"').then_some(())?;
        let start = self.to.begin(b's');
        loop {
            let rest = self.bytes.get(self.at..)?;
            let plain = json::plain(rest)?;
            self.to.out.extend_from_slice(rest.get(..plain)?);
            self.at += plain + 1;
            match rest.get(plain)? {
                b'"' => return Some(self.to.end(start)),
                b'\\' => self.escape()?,
                control => self.to.out.push(*control),
            }
        }
    }

    /// Writes the character that an escape stands for, after its backslash.
    fn escape(&mut self) -> Option<()> {
        let byte = match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let character = self.character()?;
                self.to.out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Some(());
            }
            _ => return None,
        };
        self.to.out.push(byte);
        Some(())
    }

    /// One character, in one or two units of UTF-16.
    fn character(&mut self) -> Option<char> {
        let unit = self.four_hex()?;
        let mut units = [unit, 0];
        let mut count = 1;
        if (0xd800..0xdc00).contains(&unit) {
            (self.next()? == b'\\' && self.next()? == b'u').then_some(())?;
            units = [unit, self.four_hex()?];
            count = 2;
        }
        char::decode_utf16(units.into_iter().take(count)).next()?.ok()
    }

    fn four_hex(&mut self) -> Option<u16> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit << 4 | u16::try_from(char::from(self.next()?).to_digit(16)?).ok()?;
        }
        Some(unit)
    }

    /// The same bytes for the same number: its digits without zeros at either end, and the power of ten.
    fn number(&mut self) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
        let end = rest.iter().take_while(|byte| is_part(byte)).count();
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        self.at += end;
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.bytes().chain(part.bytes()).all(|digit| digit == b'0') {
            self.to.sized(b'n', b"0");
            return Some(());
        }
        let start = self.to.begin(b'n');
        let out = &mut self.to.out;
        if is_negative {
            out.push(b'-');
        }
        let first = out.len();
        let whole = whole.trim_start_matches('0');
        out.extend_from_slice(whole.as_bytes());
        out.extend_from_slice(if whole.is_empty() { part.trim_start_matches('0') } else { part }.as_bytes());
        let zeros = out.get(first..)?.iter().rev().take_while(|digit| **digit == b'0').count();
        out.truncate(out.len() - zeros);
        let power: i64 = power.trim_start_matches('+').parse().ok()?;
        let power =
            power.checked_sub(i64::try_from(part.len()).ok()?)?.checked_add(i64::try_from(zeros).ok()?)?;
        // Writing to a Vec cannot fail.
        let _ = write!(out, "e{power}");
        self.to.end(start);
        Some(())
    }

    fn blank(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn next(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
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
