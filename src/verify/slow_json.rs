//! For tests: JSON read the plain way, into a tree that is spelled afterwards. [`json`](super::json) must agree with it.

use std::collections::BTreeMap;

use crate::cql::CqlType;

/// Nesting that is followed.
const DEEPEST: usize = 1000;

/// JSON, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Json {
    /// `null`, `true`, `false`, or a number in its canonical spelling.
    Word(String),
    /// A text.
    Text(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(BTreeMap<String, Json>),
}

/// Reads a JSON text; nothing where it is none.
pub(super) fn parse(text: &[u8]) -> Option<Json> {
    let mut reader = Reader { text: std::str::from_utf8(text).ok()?, depth: 0 };
    let value = reader.value()?;
    reader.blanks();
    reader.text.is_empty().then_some(value)
}

impl Json {
    /// The canonical spelling.
    pub(super) fn spelled(&self) -> String {
        let mut out = String::new();
        self.spell(&mut out);
        out
    }

    fn spell(&self, out: &mut String) {
        match self {
            Json::Word(word) => out.push_str(word),
            Json::Text(text) => spell_text(text, out),
            Json::Array(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.spell(out);
                }
                out.push(']');
            }
            Json::Object(members) => {
                out.push('{');
                for (at, (name, value)) in members.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    spell_text(name, out);
                    out.push(':');
                    value.spell(out);
                }
                out.push('}');
            }
        }
    }
}

fn spell_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}

struct Reader<'a> {
    text: &'a str,
    depth: usize,
}

impl Reader<'_> {
    fn blanks(&mut self) {
        self.text = self.text.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, token: &str) -> Option<()> {
        self.text = self.text.strip_prefix(token)?;
        Some(())
    }

    fn value(&mut self) -> Option<Json> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        self.blanks();
        let value = match self.text.chars().next()? {
            '{' => self.object()?,
            '[' => self.array()?,
            '"' => Json::Text(self.string()?),
            't' => self.word("true")?,
            'f' => self.word("false")?,
            'n' => self.word("null")?,
            _ => self.number()?,
        };
        self.depth -= 1;
        Some(value)
    }

    fn word(&mut self, word: &str) -> Option<Json> {
        self.eat(word)?;
        Some(Json::Word(word.to_owned()))
    }

    fn array(&mut self) -> Option<Json> {
        self.eat("[")?;
        let mut values = Vec::new();
        self.blanks();
        if self.eat("]").is_some() {
            return Some(Json::Array(values));
        }
        loop {
            values.push(self.value()?);
            self.blanks();
            if self.eat("]").is_some() {
                return Some(Json::Array(values));
            }
            self.eat(",")?;
        }
    }

    fn object(&mut self) -> Option<Json> {
        self.eat("{")?;
        let mut members = BTreeMap::new();
        self.blanks();
        if self.eat("}").is_some() {
            return Some(Json::Object(members));
        }
        loop {
            self.blanks();
            let name = self.string()?;
            self.blanks();
            self.eat(":")?;
            // The last of equal names wins, as in jsonb.
            members.insert(name, self.value()?);
            self.blanks();
            if self.eat("}").is_some() {
                return Some(Json::Object(members));
            }
            self.eat(",")?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.eat("\"")?;
        let mut out = String::new();
        loop {
            let end = self.text.find(['"', '\\'])?;
            let (plain, rest) = self.text.split_at_checked(end)?;
            out.push_str(plain);
            self.text = rest;
            if self.eat("\"").is_some() {
                return Some(out);
            }
            self.eat("\\")?;
            let mark = self.text.chars().next()?;
            self.text = self.text.get(mark.len_utf8()..)?;
            out.push(match mark {
                '"' | '\\' | '/' => mark,
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => self.escaped()?,
                _ => return None,
            });
        }
    }

    fn escaped(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.eat("\\u")?;
        let second = self.hex()?;
        (0xdc00..0xe000)
            .contains(&second)
            .then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            .and_then(char::from_u32)
    }

    fn hex(&mut self) -> Option<u32> {
        let (digits, rest) = self.text.split_at_checked(4)?;
        self.text = rest;
        digits.bytes().all(|b| b.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
    }

    fn number(&mut self) -> Option<Json> {
        let is_part = |c: char| c.is_ascii_digit() || ['-', '+', '.', 'e', 'E'].contains(&c);
        let end = self.text.find(|c| !is_part(c)).unwrap_or(self.text.len());
        let (number, rest) = self.text.split_at_checked(end)?;
        self.text = rest;
        worth(number).map(Json::Word)
    }
}

/// A number by its worth: `1.0`, `10e-1` and `1` are one and the same.
fn worth(number: &str) -> Option<String> {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if whole.is_empty() || !all.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some("0".to_owned());
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let scale = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
    Some(if scale == 0 { format!("{sign}{significant}") } else { format!("{sign}{significant}e{scale}") })
}

/// An object in the arrangement of a map with values of this type; `is_map` where the JSON stands for such a map.
pub(super) fn arranged(json: Json, kind: &CqlType, is_map: bool) -> Json {
    match (json, kind) {
        (Json::Object(members), _) if is_map => {
            let one = |(name, value)| (name, arranged(value, kind, false));
            Json::Object(members.into_iter().map(one).collect())
        }
        (json @ Json::Object(_), CqlType::Map(_, values)) => arranged(json, values, true),
        (Json::Array(values), CqlType::List(of)) if !is_map => {
            Json::Array(values.into_iter().map(|value| arranged(value, of, false)).collect())
        }
        (Json::Array(values), CqlType::Set(of)) if !is_map => {
            let mut values: Vec<Json> = values.into_iter().map(|value| arranged(value, of, false)).collect();
            values.sort_by_cached_key(Json::spelled);
            Json::Array(values)
        }
        (json, _) => json,
    }
}
