//! The canonical spelling of a JSON value, while it is written: members sorted by their names, the last of equal names,
//! numbers by their worth, no blanks, and of every text the shortest spelling. Equal values have equal bytes.
//!
//! Everything goes straight to its place in one buffer. DifferenceKind has an order of its own – members that came unsorted,
//! sets – is put into it afterwards, so that the usual, sorted case copies nothing.

use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;

/// A value that is being written.
#[derive(Debug, Default)]
pub struct Spelling {
    out: Vec<u8>,
    /// DifferenceKind is on its way into an order.
    sorted: Vec<u8>,
}

/// A member of an object, as it was written.
#[derive(Debug)]
pub struct Member<'n> {
    name: Cow<'n, str>,
    written: Range<usize>,
}

impl Spelling {
    /// With room for so many bytes.
    pub fn with_room_for(bytes: usize) -> Spelling {
        Spelling { out: Vec::with_capacity(bytes), sorted: Vec::new() }
    }

    /// DifferenceKind was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// DifferenceKind was written from this place on.
    pub fn since(&self, start: usize) -> &[u8] {
        self.out.get(start..).unwrap_or_default()
    }

    /// Writes `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) {
        self.out.extend_from_slice(word.as_bytes());
    }

    /// Writes a text with its quotes.
    pub fn text(&mut self, text: &str) {
        self.quote();
        let mut rest = text.as_bytes();
        while let Some((plain, special, behind)) = split(rest) {
            self.plain(plain);
            self.character(char::from(special));
            rest = behind;
        }
        self.plain(rest);
        self.quote();
    }

    /// Writes the quote at either end of a text.
    pub fn quote(&mut self) {
        self.out.push(b'"');
    }

    /// Writes a part of a text that is spelled canonically.
    pub fn plain(&mut self, spelled: &[u8]) {
        self.out.extend_from_slice(spelled);
    }

    /// Writes one character of a text.
    pub fn character(&mut self, character: char) {
        let short = match character {
            '"' | '\\' => character,
            '\u{8}' => 'b',
            '\u{c}' => 'f',
            '\n' => 'n',
            '\r' => 'r',
            '\t' => 't',
            '\0'..='\u{1f}' => {
                // Writing to a Vec cannot fail.
                let _ = write!(self.out, "\\u{:04x}", u32::from(character));
                return;
            }
            _ => return self.plain(character.encode_utf8(&mut [0; 4]).as_bytes()),
        };
        self.plain(&[b'\\', short as u8]);
    }

    /// Writes a number by its worth: `1.0`, `10e-1` and `1` are one and the same. Nothing where it is no number.
    pub fn number(&mut self, number: &str) -> Option<()> {
        let (is_negative, rest) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
        let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
        let exponent: i64 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let mut digits = whole.bytes().chain(fraction.bytes());
        if whole.is_empty() || !digits.all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let start = self.out.len();
        if is_negative {
            self.out.push(b'-');
        }
        let zeros = i64::try_from(self.significant(whole, fraction)).ok()?;
        if self.since(start).last().is_none_or(|byte| *byte == b'-') {
            self.out.truncate(start);
            self.out.push(b'0');
            return Some(());
        }
        let scale = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
        if scale != 0 {
            let _ = write!(self.out, "e{scale}");
        }
        Some(())
    }

    /// Writes these digits without the zeros at either end; says how many were left out at the right one.
    fn significant(&mut self, whole: &str, fraction: &str) -> usize {
        let start = self.out.len();
        let whole = whole.trim_start_matches('0');
        let fraction = if whole.is_empty() { fraction.trim_start_matches('0') } else { fraction };
        self.plain(whole.as_bytes());
        self.plain(fraction.as_bytes());
        let written = self.out.len();
        let kept = self.since(start).iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
        self.out.truncate(start + kept);
        written - self.out.len()
    }

    /// Begins an object or array with this bracket; says where its inside begins.
    pub fn open(&mut self, bracket: u8) -> usize {
        self.out.push(bracket);
        self.out.len()
    }

    /// Begins a member or an element of what was opened at `first`; says where it begins.
    pub fn next(&mut self, first: usize) -> usize {
        if self.out.len() > first {
            self.out.push(b',');
        }
        self.out.len()
    }

    /// Ends a member's name.
    pub fn colon(&mut self) {
        self.out.push(b':');
    }

    /// The member that was written from `start` on.
    pub fn member<'n>(&self, name: Cow<'n, str>, start: usize) -> Member<'n> {
        Member { name, written: start..self.out.len() }
    }

    /// Ends an object that was opened at `first`, of whose members the last one of a name counts.
    pub fn close_object(&mut self, first: usize, members: &mut [Member<'_>]) {
        if !members.is_sorted_by(|one, next| one.name < next.name) {
            // The sort is stable: of one name the last one stays behind the others.
            members.sort_by(|one, other| one.name.cmp(&other.name));
            let last_ones = members.chunk_by(|one, next| one.name == next.name).filter_map(<[_]>::last);
            self.rearrange(first, last_ones.map(|member| &member.written));
        }
        self.out.push(b'}');
    }

    /// Ends an array.
    pub fn close_array(&mut self) {
        self.out.push(b']');
    }

    /// Ends an array that stands for a set, so that its elements have no order; they begin at these places.
    pub fn close_set(&mut self, first: usize, starts: &[usize]) {
        // Between two elements is a comma, and so is behind the last one as soon as another would follow.
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([self.out.len()]);
        let mut parts: Vec<Range<usize>> = starts.iter().zip(ends).map(|(start, end)| *start..end).collect();
        parts.sort_by_key(|part| self.out.get(part.clone()));
        self.rearrange(first, parts.iter());
        self.close_array();
    }

    /// Puts these parts of what was written from `first` on into this order, and drops the rest.
    fn rearrange<'p>(&mut self, first: usize, parts: impl Iterator<Item = &'p Range<usize>>) {
        self.sorted.clear();
        for part in parts {
            if !self.sorted.is_empty() {
                self.sorted.push(b',');
            }
            self.sorted.extend_from_slice(self.out.get(part.clone()).unwrap_or_default());
        }
        self.out.truncate(first);
        self.out.extend_from_slice(&self.sorted);
    }
}

/// Cuts before and after the first byte that does not stand for itself in a JSON text.
fn split(bytes: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let at = special(bytes)?;
    Some((bytes.get(..at)?, *bytes.get(at)?, bytes.get(at + 1..)?))
}

/// The place of the first quote, backslash or control character.
pub fn special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let is_special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    rest.iter().position(is_special).map(|at| words.len() * 8 + at)
}

/// Of eight bytes at once, the highest bit of each that is special. A borrow may mark bytes above a special one, never
/// one below it: the lowest bit is right.
fn specials(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spelled(write: impl FnOnce(&mut Spelling)) -> String {
        let mut spelling = Spelling::default();
        write(&mut spelling);
        String::from_utf8(spelling.into_bytes()).expect("text")
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (number, worth) in [
            ("0", "0"),
            ("-0.00e7", "0"),
            ("1", "1"),
            ("1.0", "1"),
            ("-10", "-1e1"),
            ("0.5", "5e-1"),
            ("1050.50", "10505e-1"),
            ("12e+3", "12e3"),
            ("12E-1", "12e-1"),
            ("9007199254740993", "9007199254740993"),
        ] {
            assert_eq!(spelled(|out| out.number(number).expect(number)), worth, "{number}");
        }
        for none in ["", "-", "+1", ".5", "1e", "1e5e5", "NaN", "inf", "1-2", "1e99999999999999999999"] {
            assert_eq!(Spelling::default().number(none), None, "{none}");
        }
        for edge in ["1e-9223372036854775808", "0.1e-9223372036854775808", "10e9223372036854775807"] {
            // Beyond what is counted here: no number, and no panic.
            let _ = Spelling::default().number(edge);
        }
    }

    #[test]
    fn a_set_has_no_order_and_keeps_what_is_there_twice() {
        let set = |values: &[&str]| {
            spelled(|out| {
                let first = out.open(b'[');
                let mut starts = Vec::new();
                for value in values {
                    starts.push(out.next(first));
                    out.text(value);
                }
                out.close_set(first, &starts);
            })
        };
        assert_eq!(set(&["b", "a", "b"]), r#"["a","b","b"]"#);
        assert_eq!(set(&["a"]), r#"["a"]"#);
        assert_eq!(set(&[]), "[]");
    }

    proptest! {
        #[test]
        fn a_text_is_spelled_as_serde_spells_it(text in any::<String>()) {
            prop_assert_eq!(spelled(|out| out.text(&text)), serde_json::Value::from(text).to_string());
        }

        #[test]
        fn the_first_special_byte_is_found(bytes in prop_oneof![
            any::<Vec<u8>>(),
            proptest::collection::vec(prop_oneof![20 => 0x1f..=0x23_u8, 10 => 0x5b..=0x5d_u8, 60 => 0x7f..=0xff_u8], 0..40),
            proptest::collection::vec(prop_oneof![20 => Just(b'x'), 1 => Just(b'"'), 1 => Just(0_u8)], 0..60),
        ]) {
            let slow = bytes.iter().position(|byte| *byte == b'"' || *byte == b'\\' || *byte < 0x20);
            prop_assert_eq!(special(&bytes), slow);
        }
    }
}
