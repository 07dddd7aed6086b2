//! Would PostgreSQL take this text as JSON? Decided over the bytes, without building a value.
//!
//! The text itself is handed to PostgreSQL untouched, so that no number is ever printed anew (facts, trap 18). The
//! check is exact about grammar and about what jsonb refuses beyond it – `\u0000` and lone surrogates – and iterative,
//! so that deep nesting cannot exhaust our stack. What only PostgreSQL can know (its own stack depth, the range of
//! `numeric`) is left to PostgreSQL: the stage sets such a row aside when COPY refuses it.

use super::reason::Reason;

/// Which PostgreSQL type the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// `json`: the text is kept; an escaped U+0000 or a lone surrogate is only text there.
    Json,
    /// `jsonb`: the text is taken apart; such escapes are refused.
    Jsonb,
}

/// What the outermost value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Top {
    /// `{…}`
    Object,
    /// Anything else.
    Other,
}

/// Checks one JSON text (already known to be UTF-8 without U+0000) and says what its outermost value is.
pub fn check(bytes: &[u8], target: Target) -> Result<Top, Reason> {
    let mut scanner = Scanner { bytes, at: 0, target, open: Vec::new() };
    scanner.document().ok_or(Reason::JsonInvalid)
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    target: Target,
    /// The brackets that are open, outermost first.
    open: Vec<u8>,
}

impl Scanner<'_> {
    /// `None` means: not acceptable.
    fn document(&mut self) -> Option<Top> {
        self.blank();
        let top = if self.peek() == Some(b'{') { Top::Object } else { Top::Other };
        self.value()?;
        while let Some(&bracket) = self.open.last() {
            self.blank();
            match (bracket, self.next()?) {
                (b'{', b'}') | (b'[', b']') => {
                    self.open.pop();
                }
                (b'{', b',') => self.member()?,
                (b'[', b',') => {
                    self.blank();
                    self.value()?;
                }
                _ => return None,
            }
        }
        self.blank();
        (self.at == self.bytes.len()).then_some(top)
    }

    /// Reads a scalar whole, or opens an array or object up to the end of its first scalar.
    fn value(&mut self) -> Option<()> {
        loop {
            match self.next()? {
                b'{' => {
                    self.blank();
                    if self.peek() == Some(b'}') {
                        self.at += 1;
                        return Some(());
                    }
                    self.open.push(b'{');
                    self.name()?;
                }
                b'[' => {
                    self.blank();
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        return Some(());
                    }
                    self.open.push(b'[');
                }
                b'"' => return self.string(),
                b't' => return self.word(b"rue"),
                b'f' => return self.word(b"alse"),
                b'n' => return self.word(b"ull"),
                b'-' => {
                    let digit = self.next()?;
                    return self.number(digit);
                }
                digit => return self.number(digit),
            }
            self.blank();
        }
    }

    fn member(&mut self) -> Option<()> {
        self.blank();
        self.name()?;
        self.blank();
        self.value()
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Option<()> {
        (self.next()? == b'"').then_some(())?;
        self.string()?;
        self.blank();
        (self.next()? == b':').then_some(())
    }

    /// The rest of a string, after its opening quote.
    fn string(&mut self) -> Option<()> {
        loop {
            self.at += plain(self.bytes.get(self.at..)?)?;
            match self.next()? {
                b'"' => return Some(()),
                b'\\' => self.escape()?,
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.next()? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(()),
            b'u' => {
                let unit = self.four_hex()?;
                if self.target == Target::Json { Some(()) } else { self.whole_character(unit) }
            }
            _ => None,
        }
    }

    /// jsonb stores characters, so a surrogate needs its other half and U+0000 has no place.
    fn whole_character(&mut self, unit: u32) -> Option<()> {
        match unit {
            0 | 0xdc00..=0xdfff => None,
            0xd800..=0xdbff => {
                (self.next()? == b'\\' && self.next()? == b'u').then_some(())?;
                matches!(self.four_hex()?, 0xdc00..=0xdfff).then_some(())
            }
            _ => Some(()),
        }
    }

    fn four_hex(&mut self) -> Option<u32> {
        let mut unit = 0;
        for _ in 0..4 {
            unit = unit * 16 + char::from(self.next()?).to_digit(16)?;
        }
        Some(unit)
    }

    /// The rest of a number, after its first digit.
    fn number(&mut self, first: u8) -> Option<()> {
        match first {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.some_digits()?;
        }
        // "1x" and "01" are one broken token, not a number and something after it.
        (!matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..))).then_some(())
    }

    fn some_digits(&mut self) -> Option<()> {
        self.next()?.is_ascii_digit().then_some(())?;
        self.digits();
        Some(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn word(&mut self, rest: &[u8]) -> Option<()> {
        let found = self.bytes.get(self.at..)?.starts_with(rest);
        self.at += rest.len();
        found.then_some(())
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }
}

/// How many bytes stand for themselves before a quote, a backslash or a control character; nothing where none comes.
pub(super) fn plain(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES * 0x80;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // In the lowest of its bytes that is 0, this sets the highest bit; a borrow reaches only higher ones.
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = control | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    rest.iter().position(is_special).map(|at| words.len() * 8 + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_kong_writes_passes() {
        for text in [
            "{}",
            r#"{"path":"\/a\/b","list":[],"nothing":null,"n":1e+15,"f":-0.5,"t":true}"#,
            " {\"a\" : [ { } , [ ] , 0 ] }\n",
            r#"{"emoji":"\ud83d\ude00","raw":"🐘"}"#,
        ] {
            assert_eq!(check(text.as_bytes(), Target::Jsonb), Ok(Top::Object), "{text}");
        }
        assert_eq!(check(b"[1]", Target::Jsonb), Ok(Top::Other));
        assert_eq!(check(b"\"{}\"", Target::Jsonb), Ok(Top::Other));
    }

    #[test]
    fn what_postgres_refuses_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "{\"a\":1,}",
            "[1,]",
            "{a:1}",
            "{'a':1}",
            "NaN",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":0x1f}",
            "{\"a\":01}",
            "{\"a\":1.}",
            "{\"a\":.5}",
            "{\"a\":+1}",
            "{\"a\":1e}",
            "{\"a\":1}x",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\\x\"}",
            "{\"a\":\"\\u12g4\"}",
            "[1}",
            "{\"a\":[}",
            "nul",
            "truefalse",
            "1x",
        ] {
            assert_eq!(check(text.as_bytes(), Target::Jsonb), Err(Reason::JsonInvalid), "{text}");
            assert_eq!(check(text.as_bytes(), Target::Json), Err(Reason::JsonInvalid), "{text}");
        }
    }

    #[test]
    fn escapes_that_only_json_stores_are_refused_for_jsonb() {
        for text in
            [r#"{"a":"\u0000"}"#, r#"{"a":"\ud800"}"#, r#"{"a":"\ude00x"}"#, r#"{"a":"\ud800\u0041"}"#]
        {
            assert_eq!(check(text.as_bytes(), Target::Jsonb), Err(Reason::JsonInvalid), "{text}");
            assert_eq!(check(text.as_bytes(), Target::Json), Ok(Top::Object), "{text}");
        }
    }

    #[test]
    fn depth_costs_memory_not_stack() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        assert_eq!(check(deep.as_bytes(), Target::Jsonb), Ok(Top::Other));
    }

    proptest! {
        #[test]
        fn what_is_plain_ends_at_the_first_special_byte(bytes in prop_oneof![
            any::<Vec<u8>>(),
            proptest::collection::vec(prop_oneof![0x1f..=0x23_u8, 0x5b..=0x5d_u8, 0x7f..=0xff_u8], 0..40),
            proptest::collection::vec(prop_oneof![20 => Just(b'x'), 1 => Just(b'"'), 1 => Just(0_u8)], 0..60),
        ]) {
            let slow = bytes.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20);
            prop_assert_eq!(plain(&bytes), slow);
        }

        #[test]
        fn agrees_with_serde_json_on_arbitrary_text(text in r#"[\[\]{}:,"\\u0-9a-f.eE+\- tnl]{0,24}"#) {
            let ours = check(text.as_bytes(), Target::Json).is_ok();
            let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}
