//! JSON as a value: members sorted, the last of equal names, numbers by their worth, as PostgreSQL's jsonb compares.
//!
//! A reader of its own, because the proof must not lean on the code that it proves, and because a number must not
//! pass through a float on the way. It builds no value: what it reads goes straight into the canonical spelling, for a
//! row may hold a great deal of JSON.

use std::borrow::Cow;

use super::spelling::{Member, Spelling, special};
use crate::cql::CqlType;

/// Nesting that is followed; Kong's own encoder stops at 1000.
const DEEPEST: usize = 1000;

/// DifferenceKind a JSON value stands for, where that says which of its arrays have no order.
#[derive(Debug, Clone, Copy)]
enum Stands<'t> {
    /// Nothing but itself.
    Itself,
    /// A map of blue, with values of this type.
    Map(&'t CqlType),
    /// A value of this type.
    One(&'t CqlType),
}

impl Stands<'_> {
    fn of_member(self) -> Self {
        match self {
            Stands::Map(values) => Stands::One(values),
            Stands::One(CqlType::Map(_, values)) => Stands::One(values),
            _ => Stands::Itself,
        }
    }

    fn of_element(self) -> Self {
        match self {
            Stands::One(CqlType::List(of) | CqlType::Set(of)) => Stands::One(of),
            _ => Stands::Itself,
        }
    }

    fn is_set(self) -> bool {
        matches!(self, Stands::One(CqlType::Set(_)))
    }
}

/// The canonical spelling of a JSON text; nothing where it is none.
pub fn canonical(text: &[u8]) -> Option<Vec<u8>> {
    spelled(text, Stands::Itself)
}

/// The same of an object that stands for a map with values of this type: what is a set there has no order.
pub fn canonical_map(text: &[u8], values: &CqlType) -> Option<Vec<u8>> {
    spelled(text, Stands::Map(values))
}

fn spelled(text: &[u8], stands: Stands<'_>) -> Option<Vec<u8>> {
    let text = simdutf8::basic::from_utf8(text).ok()?;
    let out = Spelling::with_room_for(text.len());
    let mut reader = Reader { text, at: 0, depth: 0, out, members: Vec::new() };
    reader.value(stands)?;
    reader.blanks();
    (reader.at == text.len()).then(|| reader.out.into_bytes())
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    out: Spelling,
    /// The members of the objects that are being read, outermost first.
    members: Vec<Member<'a>>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn value(&mut self, stands: Stands<'_>) -> Option<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        self.blanks();
        match self.peek()? {
            b'{' => self.object(stands)?,
            b'[' => self.array(stands)?,
            b'"' => self.string()?,
            b't' => self.word("true")?,
            b'f' => self.word("false")?,
            b'n' => self.word("null")?,
            _ => self.number()?,
        }
        self.depth -= 1;
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.rest().starts_with(word.as_bytes()).then_some(())?;
        self.at += word.len();
        self.out.word(word);
        Some(())
    }

    fn array(&mut self, stands: Stands<'_>) -> Option<()> {
        self.eat(b'[')?;
        let first = self.out.open(b'[');
        let mut starts = Vec::new();
        self.blanks();
        if self.eat(b']').is_none() {
            loop {
                let start = self.out.next(first);
                if stands.is_set() {
                    starts.push(start);
                }
                self.value(stands.of_element())?;
                self.blanks();
                if self.eat(b']').is_some() {
                    break;
                }
                self.eat(b',')?;
            }
        }
        if stands.is_set() {
            self.out.close_set(first, &starts);
        } else {
            self.out.close_array();
        }
        Some(())
    }

    fn object(&mut self, stands: Stands<'_>) -> Option<()> {
        self.eat(b'{')?;
        let first = self.out.open(b'{');
        let outer = self.members.len();
        self.blanks();
        if self.eat(b'}').is_none() {
            loop {
                self.blanks();
                let start = self.out.next(first);
                let name = self.name(start)?;
                self.blanks();
                self.eat(b':')?;
                self.out.colon();
                self.value(stands.of_member())?;
                self.members.push(self.out.member(name, start));
                self.blanks();
                if self.eat(b'}').is_some() {
                    break;
                }
                self.eat(b',')?;
            }
        }
        self.out.close_object(first, self.members.get_mut(outer..)?);
        self.members.truncate(outer);
        Some(())
    }

    /// A member's name, which is written at `start`, without its escapes.
    fn name(&mut self, start: usize) -> Option<Cow<'a, str>> {
        let opening = self.at;
        self.string()?;
        let inside = self.text.get(opening + 1..self.at - 1)?;
        if inside.contains('\\') {
            serde_json::from_slice(self.out.since(start)).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(inside))
        }
    }

    /// Copies a string in as large pieces as are spelled canonically already.
    fn string(&mut self) -> Option<()> {
        self.eat(b'"')?;
        self.out.quote();
        let mut from = self.at;
        loop {
            self.at += special(self.rest())?;
            let end = self.at;
            let character = match *self.rest() {
                [b'"', ..] => break,
                [b'\\', b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't', ..] => {
                    self.at += 2;
                    continue;
                }
                [b'\\', b'/', ..] => {
                    self.at += 2;
                    '/'
                }
                [b'\\', b'u', ..] => {
                    self.at += 2;
                    self.escaped()?
                }
                [control, ..] if control < b' ' => {
                    self.at += 1;
                    char::from(control)
                }
                _ => return None,
            };
            self.copy(from, end)?;
            self.out.character(character);
            from = self.at;
        }
        self.copy(from, self.at)?;
        self.out.quote();
        self.eat(b'"')
    }

    fn copy(&mut self, from: usize, end: usize) -> Option<()> {
        self.out.plain(self.text.as_bytes().get(from..end)?);
        Some(())
    }

    fn escaped(&mut self) -> Option<char> {
        let first = self.hex()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first);
        }
        self.eat(b'\\')?;
        self.eat(b'u')?;
        let second = self.hex()?;
        (0xdc00..0xe000)
            .contains(&second)
            .then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            .and_then(char::from_u32)
    }

    fn hex(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit * 16 + char::from(self.peek()?).to_digit(16)?;
            self.at += 1;
        }
        Some(unit)
    }

    fn number(&mut self) -> Option<()> {
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = self.rest().iter().take_while(|byte| is_part(byte)).count();
        let number = self.text.get(self.at..self.at + length)?;
        self.at += length;
        self.out.number(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::slow_json::{arranged, parse};
    use proptest::prelude::*;

    /// The canonical spelling by way of a tree.
    fn slowly(text: &[u8]) -> Option<Vec<u8>> {
        parse(text).map(|json| json.spelled().into_bytes())
    }

    fn same(one: &str, other: &str) -> bool {
        canonical(one.as_bytes()).expect(one) == canonical(other.as_bytes()).expect(other)
    }

    #[test]
    fn numbers_are_compared_by_their_worth() {
        for (one, other) in [("1", "1.0"), ("10", "1e1"), ("0.5", "5E-1"), ("-0", "0"), ("100", "1.00e2")] {
            assert!(same(one, other), "{one} {other}");
        }
        assert!(!same("9007199254740993", "9007199254740992"), "beyond the precision of a float");
        assert!(!same("1", "\"1\""));
        assert!(!same("1", "-1"));
    }

    #[test]
    fn members_have_no_order_and_the_last_one_wins() {
        assert!(same(r#"{"a":1,"b":[1,2]}"#, r#" { "b" : [1, 2], "a" : 1.0 } "#));
        assert!(same(r#"{"a":1,"a":2}"#, r#"{"a":2}"#));
        assert!(!same("[1,2]", "[2,1]"));
        assert!(!same("[]", "{}"));
    }

    #[test]
    fn texts_are_compared_unescaped() {
        assert!(same(r#""a\/bé😀\n""#, "\"a/bé😀\\u000a\""));
    }

    #[test]
    fn what_is_no_json_is_none() {
        for text in ["", "{", "[1,]", "nan", "\"\\ud800\"", "{\"a\"}", "1 2", "\u{1}"] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
        }
        assert_eq!(canonical("[".repeat(5000).as_bytes()), None);
    }

    #[test]
    fn escapes_and_the_odd_corners_are_read_as_before() {
        for text in [
            r#""\u00e9\u00E9\ud83d\ude00\uD83D\uDE00""#,
            r#""\u0000\u0001\u001f\u0020\u007f\u2028""#,
            r#""\b\f\n\r\t\/\\\"""#,
            "\"raw \u{1} \t \n \u{7f}\"",
            r#""\u005c\u0022\u002f""#,
            r#"{"\u0061":1,"a":2,"b\"":3,"b!":4,"\n":5,"\u000a":6,"é":7,"\u00e9":8}"#,
            r#"{"b":{"d":1,"c":[{"f":1,"e":2}]},"a":1,"b":{}}"#,
            r#"{"a":{"b":1,"a":2},"":[],"a":{"z":1,"y":{"b":1,"a":2}}}"#,
            "[01,1.,-0,-0.0,1E+2,0.00001200]",
            " [ ] ",
            "{ }",
            "{\"a\" :\t1\r\n}",
        ] {
            assert!(canonical(text.as_bytes()).is_some(), "{text}");
            assert_eq!(canonical(text.as_bytes()), slowly(text.as_bytes()), "{text}");
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
            "[1}",
            "[,1]",
            "{\"a\":1,}",
            "{,}",
            "{1:1}",
            "[1 2]",
            "truefalse",
            "[+1]",
            "[.5]",
            "[1e]",
            "[--1]",
            "[1e99999999999999999999]",
        ] {
            assert_eq!(canonical(text.as_bytes()), None, "{text}");
            assert_eq!(slowly(text.as_bytes()), None, "{text}");
        }
        assert_eq!(canonical(b"\"\xff\""), None);
    }

    #[test]
    fn nesting_is_followed_to_its_limit() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = |deep: usize| format!("{}1{}", open.repeat(deep), close.repeat(deep));
            assert_eq!(canonical(nested(999).as_bytes()), slowly(nested(999).as_bytes()));
            assert!(canonical(nested(999).as_bytes()).is_some());
            assert_eq!(canonical(nested(1000).as_bytes()), None);
        }
    }

    /// JSON in every spelling: blanks, orders, names that come twice, escapes, numbers.
    fn spelled_somehow() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            12 => "[a-c é😀:/,]".prop_map(String::from),
            1 => (0..=0x1f_u8).prop_map(|byte| char::from(byte).to_string()),
            2 => "\\\\[\"\\\\/bfnrt]",
            2 => any::<u16>().prop_map(|unit| format!("\\u{unit:04x}")),
            1 => any::<char>().prop_map(|c| {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")).collect()
            }),
        ];
        let text =
            proptest::collection::vec(character, 0..12).prop_map(|all| format!("\"{}\"", all.concat()));
        let number = "-?[0-9]{1,4}(\\.[0-9]{0,4})?([eE][-+]?[0-9]{1,3})?";
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
        fn arbitrary_bytes_end(text in any::<Vec<u8>>()) {
            prop_assert_eq!(canonical(&text), slowly(&text));
        }

        #[test]
        fn what_goes_straight_into_its_spelling_agrees_with_a_tree(text in spelled_somehow()) {
            prop_assert_eq!(canonical(text.as_bytes()), slowly(text.as_bytes()), "{}", text);
        }

        #[test]
        fn broken_json_is_none_to_both(text in r#"[\[\]{}:,"\\u0-9a-f.eE+\- tnl]{0,24}"#) {
            prop_assert_eq!(canonical(text.as_bytes()), slowly(text.as_bytes()), "{}", text);
        }

        #[test]
        fn sets_of_maps_agree_with_a_tree(text in spelled_somehow()) {
            for of in ["frozen<set<text>>", "frozen<map<text, frozen<set<text>>>>", "frozen<list<frozen<set<int>>>>"] {
                let of = CqlType::parse(of);
                let tree = parse(text.as_bytes()).map(|json| arranged(json, &of, true).spelled().into_bytes());
                prop_assert_eq!(canonical_map(text.as_bytes(), &of), tree, "{}", text);
            }
        }

        #[test]
        fn the_spelling_of_a_spelling_is_itself(text in spelled_somehow()) {
            if let Some(spelled) = canonical(text.as_bytes()) {
                prop_assert_eq!(canonical(&spelled), Some(spelled));
            }
        }
    }
}
