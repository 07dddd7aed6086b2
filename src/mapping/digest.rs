//! What the ledger keeps of a row: short digests of its key and of its values.
//!
//! Both are taken over the fields of PostgreSQL's binary row, so a row that is about to be written and a row that
//! green gives back have the same digest: most types come out as the bytes that went in. `jsonb` does not – green
//! stores values, not text –, so JSON is digested by value. The expiry stays out: an unchanged row with a time to live
//! is read a second later or earlier at every run (DESIGN, "Time to live"), and is compared by itself.

use std::ops::Range;

use sha2::{Digest, Sha256};

use super::table_plan::TablePlan;

/// Half of a SHA-256: enough to tell any two rows apart that are not made to be mistaken.
pub type Short = [u8; 16];

/// JSON nested deeper than this is digested by its text.
const DEEPEST: usize = 400;

/// What is kept of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Its key.
    pub key: Short,
    /// Its values, the expiry aside.
    pub digest: Short,
    /// Its expiry, in PostgreSQL's microseconds since 2000.
    pub expiry: Option<i64>,
}

/// Makes the marks of one table's rows.
#[derive(Debug, Clone)]
pub struct Digester {
    /// Places of the key's columns, in the key's order.
    key: Vec<usize>,
    /// How each column is digested.
    columns: Vec<Shape>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    /// `character(n)` comes back with blanks at its end.
    Padded,
    Jsonb,
    JsonbArray,
    Expiry,
}

impl Digester {
    /// For rows with the columns of this plan, in its order.
    pub fn new(plan: &TablePlan) -> Digester {
        let place = |name: &String| plan.columns.iter().position(|column| column.name == *name);
        let shape = |name: &String, green_type: &str| match green_type {
            _ if plan.expiry.as_ref() == Some(name) => Shape::Expiry,
            "jsonb" => Shape::Jsonb,
            "jsonb[]" => Shape::JsonbArray,
            padded if padded.starts_with("character(") => Shape::Padded,
            _ => Shape::Plain,
        };
        Digester {
            key: plan.key.iter().filter_map(place).collect(),
            columns: plan.columns.iter().map(|column| shape(&column.name, &column.green_type)).collect(),
        }
    }

    /// The mark of one row in binary COPY format; nothing where these bytes are not such a row.
    pub fn mark(&self, row: &[u8]) -> Option<Mark> {
        let fields = fields(row)?;
        self.mark_fields(&fields)
    }

    /// The mark of a row whose fields are already apart.
    pub fn mark_fields(&self, fields: &[Option<&[u8]>]) -> Option<Mark> {
        let mut hasher = Sha256::new();
        let mut expiry = None;
        for (shape, field) in self.columns.iter().zip(fields) {
            match (shape, field) {
                (Shape::Expiry, field) => {
                    expiry = field.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
                }
                (_, None) => hasher.update((-1_i32).to_be_bytes()),
                (Shape::Plain, Some(bytes)) => add(&mut hasher, bytes),
                (Shape::Padded, Some(bytes)) => add(&mut hasher, bytes.trim_ascii_end()),
                (Shape::Jsonb, Some(bytes)) => add(&mut hasher, &canonical(bytes)),
                (Shape::JsonbArray, Some(bytes)) => jsonb_array(&mut hasher, bytes),
            }
        }
        let key: Vec<Option<&[u8]>> = self.key.iter().map(|at| fields.get(*at).copied().flatten()).collect();
        Some(Mark { key: key_of(&key), digest: short(hasher), expiry })
    }
}

/// The short form of a key, from its fields in the key's order.
pub fn key_of(fields: &[Option<&[u8]>]) -> Short {
    let mut hasher = Sha256::new();
    for field in fields {
        add(&mut hasher, field.unwrap_or_default());
    }
    short(hasher)
}

/// The fields of one row in binary COPY format.
pub fn fields(row: &[u8]) -> Option<Vec<Option<&[u8]>>> {
    let count = i16::from_be_bytes(row.get(..2)?.try_into().ok()?);
    let mut fields = Vec::with_capacity(usize::try_from(count).ok()?);
    let mut at = 2;
    for _ in 0..count {
        let length = i32::from_be_bytes(row.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                fields.push(Some(row.get(at..at + length)?));
                at += length;
            }
            Err(_) => fields.push(None),
        }
    }
    Some(fields)
}

fn add(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

fn short(hasher: Sha256) -> Short {
    let mut short = Short::default();
    short.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    short
}

/// A `jsonb` field is a version byte and a text: here by its value. What cannot be read as JSON counts by its bytes.
fn canonical(field: &[u8]) -> Vec<u8> {
    let text = field.get(1..).unwrap_or_default();
    let mut reader = Json { bytes: text, at: 0, out: Vec::with_capacity(text.len() + text.len() / 4) };
    if reader.value(0).is_none() {
        reader.out.clear();
        reader.out.push(b'?');
        reader.out.extend_from_slice(text);
    }
    reader.out
}

fn jsonb_array(hasher: &mut Sha256, field: &[u8]) {
    // Dimensions, a flag, the type, and per dimension its length and lower bound; then the elements as fields.
    let Some(dimensions) = field.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes)
    else {
        return add(hasher, field);
    };
    let mut at = 12 + usize::try_from(dimensions).unwrap_or(0) * 8;
    add(hasher, field.get(12..at).unwrap_or_default());
    while let Some(length) =
        field.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes)
    {
        at += 4;
        let end = at + usize::try_from(length).unwrap_or(0);
        match field.get(at..end) {
            Some(element) if length >= 0 => add(hasher, &canonical(element)),
            _ => hasher.update((-1_i32).to_be_bytes()),
        }
        at = end;
    }
}

/// Writes JSON by value: members in the order of their names, the last one of a name, numbers and strings however
/// spelled. Every value begins with a letter for its kind, and says how long it is or where it ends.
struct Json<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

/// A member as it was written: the whole of it, and its name.
struct Member {
    whole: Range<usize>,
    name: Range<usize>,
}

impl Json<'_> {
    fn value(&mut self, depth: usize) -> Option<()> {
        self.blank();
        match self.bytes.get(self.at)? {
            _ if depth > DEEPEST => None,
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => {
                let number = self.number()?;
                self.sized(b'n', number.as_bytes());
                Some(())
            }
            _ => {
                let rest = self.bytes.get(self.at..)?;
                let word =
                    ["true", "false", "null"].into_iter().find(|word| rest.starts_with(word.as_bytes()))?;
                self.at += word.len();
                self.sized(b'w', word.as_bytes());
                Some(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.out.push(b'o');
        let first = self.out.len();
        let mut members: Vec<Member> = Vec::new();
        self.at += 1;
        loop {
            self.blank();
            match self.bytes.get(self.at)? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let start = self.out.len();
                    let name = self.string()?;
                    self.blank();
                    self.at += 1;
                    self.value(depth + 1)?;
                    members.push(Member { whole: start..self.out.len(), name });
                }
            }
        }
        self.at += 1;
        self.in_order(first, members);
        self.out.push(b'.');
        Some(())
    }

    /// Puts the members that stand at the end of what was written, from `first` on, in the order of their names.
    fn in_order(&mut self, first: usize, mut members: Vec<Member>) {
        let written = std::mem::take(&mut self.out);
        let name = |member: &Member| written.get(member.name.clone()).unwrap_or_default();
        if members.is_sorted_by(|one, next| name(one) < name(next)) {
            self.out = written;
            return;
        }
        members.sort_by(|one, other| name(one).cmp(name(other)));
        let mut sorted = Vec::with_capacity(written.len() - first);
        for (at, member) in members.iter().enumerate() {
            // The sort is stable: the last one of a name is the one that counts.
            if members.get(at + 1).is_none_or(|next| name(next) != name(member)) {
                sorted.extend_from_slice(written.get(member.whole.clone()).unwrap_or_default());
            }
        }
        self.out = written;
        self.out.truncate(first);
        self.out.extend_from_slice(&sorted);
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.out.push(b'a');
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
        self.out.push(b'.');
        Some(())
    }

    /// Where its characters were written.
    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at += 1;
        let mut is_escaped = false;
        loop {
            let rest = self.bytes.get(self.at..)?;
            let next = memchr::memchr2(b'"', b'\\', rest)?;
            self.at += next + 1;
            if rest.get(next) == Some(&b'"') {
                break;
            }
            is_escaped = true;
            self.at += 1;
        }
        let quoted = self.bytes.get(start..self.at)?;
        if is_escaped {
            let text: String = serde_json::from_slice(quoted).ok()?;
            Some(self.sized(b's', text.as_bytes()))
        } else {
            Some(self.sized(b's', quoted.get(1..quoted.len() - 1)?))
        }
    }

    /// Writes something with its kind and length; says where it stands.
    fn sized(&mut self, kind: u8, bytes: &[u8]) -> Range<usize> {
        self.out.push(kind);
        self.out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        start..self.out.len()
    }

    /// The same text for the same number: its digits without zeros at either end, and the power of ten.
    fn number(&mut self) -> Option<String> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.iter().position(|byte| !b"+-.eE0123456789".contains(byte)).unwrap_or(rest.len());
        let text = std::str::from_utf8(rest.get(..end)?).ok()?;
        self.at += end;
        let (sign, text) = text.strip_prefix('-').map_or(("", text), |text| ("-", text));
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{part}");
        let digits = digits.trim_start_matches('0');
        let trimmed = digits.trim_end_matches('0');
        if trimmed.is_empty() {
            return Some("0".to_owned());
        }
        let zeros = i64::try_from(digits.len() - trimmed.len()).ok()?;
        let power: i64 = power.trim_start_matches('+').parse().ok()?;
        Some(format!("{sign}{trimmed}e{}", power - i64::try_from(part.len()).ok()? + zeros))
    }

    fn blank(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Vec<u8> {
        let mut field = vec![1];
        field.extend(text.as_bytes());
        canonical(&field)
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
    fn a_row_is_taken_apart_or_refused_whole() {
        let row = [0, 2, 0, 0, 0, 1, b'x', 255, 255, 255, 255];
        assert_eq!(fields(&row), Some(vec![Some(b"x".as_slice()), None]));
        assert_eq!(fields(&row[..8]), None);
    }

    #[test]
    fn neighbouring_fields_do_not_run_into_each_other() {
        let digester = Digester { key: vec![0], columns: vec![Shape::Plain, Shape::Plain] };
        let mark =
            |one: &'static [u8], two: &'static [u8]| digester.mark_fields(&[Some(one), Some(two)]).unwrap();
        assert_ne!(mark(b"ab", b"c").digest, mark(b"a", b"bc").digest);
        assert_eq!(mark(b"a", b"c").key, mark(b"a", b"b").key);
        assert_ne!(
            digester.mark_fields(&[None, Some(b"")]).unwrap().digest,
            digester.mark_fields(&[Some(b""), None]).unwrap().digest
        );
    }

    #[test]
    fn the_expiry_stays_out_of_the_digest() {
        let digester = Digester { key: vec![0], columns: vec![Shape::Plain, Shape::Expiry] };
        let mark = |at: i64| digester.mark_fields(&[Some(b"a"), Some(&at.to_be_bytes())]).unwrap();
        assert_eq!(mark(1).digest, mark(2).digest);
        assert_eq!(mark(7).expiry, Some(7));
    }
}
