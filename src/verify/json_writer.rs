//! Writes JSON in a canonical form: members sorted, of equal names the last one, numbers by value, no blanks, strings with
//! the fewest escapes. Equal values have equal bytes.

use std::io::Write;
use std::ops::Range;

/// Everything is written once, into one buffer; unsorted members and sets are put into order afterwards.
#[derive(Debug, Default)]
pub(super) struct JsonWriter {
    out: Vec<u8>,
    sorted: Vec<u8>,
}

/// Where a member was written: `"name":value`.
#[derive(Debug)]
pub(super) struct WrittenMember {
    written: Range<usize>,
    name_end: usize,
}

impl JsonWriter {
    pub(super) fn with_capacity(bytes: usize) -> JsonWriter {
        JsonWriter { out: Vec::with_capacity(bytes), sorted: Vec::new() }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Writes `true`, `false` or `null`.
    pub(super) fn literal(&mut self, literal: &str) {
        self.out.extend_from_slice(literal.as_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        // Neither a text nor a Vec can fail.
        let _ = serde_json::to_writer(&mut self.out, text);
    }

    /// Writes a number as its significant digits and a power of ten: `1.0`, `10e-1` and `1` are equal. `None` where the
    /// text is not a number.
    pub(super) fn number(&mut self, number: &str) -> Option<()> {
        let (sign, unsigned) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
        let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let exponent: i64 = exponent.parse().ok()?;
        let all = [whole, fraction].concat();
        if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let digits = all.trim_start_matches('0');
        let significant = digits.trim_end_matches('0');
        if significant.is_empty() {
            self.literal("0");
            return Some(());
        }
        let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let power = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?.checked_add(zeros)?;
        self.literal(sign);
        self.literal(significant);
        if power != 0 {
            let _ = write!(self.out, "e{power}");
        }
        Some(())
    }

    /// Opens an object or array and returns where its content begins.
    pub(super) fn open(&mut self, bracket: u8) -> usize {
        self.out.push(bracket);
        self.out.len()
    }

    /// Begins a member or an element of what was opened at `content`, and returns where it begins.
    pub(super) fn next(&mut self, content: usize) -> usize {
        if self.out.len() > content {
            self.out.push(b',');
        }
        self.out.len()
    }

    /// Writes a member's name and colon, and returns where the name ends.
    pub(super) fn name(&mut self, name: &str) -> usize {
        self.text(name);
        self.out.push(b':');
        self.out.len() - 1
    }

    /// The member that was written from `start` on.
    pub(super) fn member(&self, start: usize, name_end: usize) -> WrittenMember {
        WrittenMember { written: start..self.out.len(), name_end }
    }

    /// Closes an object; of several members of one name the last one counts.
    pub(super) fn close_object(&mut self, content: usize, members: &mut [WrittenMember]) {
        let out = self.out.as_slice();
        // The order of the written names is as good as any, because a name has one written form.
        let name =
            |member: &WrittenMember| out.get(member.written.start..member.name_end).unwrap_or_default();
        if !members.is_sorted_by(|member, next| name(member) < name(next)) {
            // The sort is stable, so the last member of a name stays the last.
            members.sort_by(|a, b| name(a).cmp(name(b)));
            let groups = members.chunk_by(|member, next| name(member) == name(next));
            let parts: Vec<Range<usize>> =
                groups.filter_map(<[_]>::last).map(|member| member.written.clone()).collect();
            self.rearrange(content, &parts);
        }
        self.out.push(b'}');
    }

    pub(super) fn close_array(&mut self) {
        self.out.push(b']');
    }

    /// Closes an array whose elements have no order; they begin at these places.
    pub(super) fn close_set(&mut self, content: usize, starts: &[usize]) {
        // A comma precedes each element but the first.
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([self.out.len()]);
        let mut parts: Vec<Range<usize>> = starts.iter().zip(ends).map(|(start, end)| *start..end).collect();
        parts.sort_by_key(|part| self.out.get(part.clone()));
        self.rearrange(content, &parts);
        self.close_array();
    }

    /// Replaces what was written from `content` on by these parts of it.
    fn rearrange(&mut self, content: usize, parts: &[Range<usize>]) {
        self.sorted.clear();
        for part in parts {
            if !self.sorted.is_empty() {
                self.sorted.push(b',');
            }
            self.sorted.extend_from_slice(self.out.get(part.clone()).unwrap_or_default());
        }
        self.out.truncate(content);
        self.out.extend_from_slice(&self.sorted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut JsonWriter)) -> String {
        let mut writer = JsonWriter::default();
        write(&mut writer);
        String::from_utf8(writer.into_bytes()).expect("UTF-8")
    }

    #[test]
    fn a_number_has_one_form() {
        for (number, form) in [
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
            assert_eq!(written(|out| out.number(number).expect(number)), form, "{number}");
        }
        for text in ["", "-", "+1", ".5", "1e", "1e5e5", "NaN", "inf", "1-2", "1e99999999999999999999"] {
            assert_eq!(JsonWriter::default().number(text), None, "{text}");
        }
        for edge in ["1e-9223372036854775808", "0.1e-9223372036854775808", "10e9223372036854775807"] {
            // Beyond the range of the exponent: no number, and no panic.
            let _ = JsonWriter::default().number(edge);
        }
    }

    #[test]
    fn a_set_has_no_order_and_keeps_duplicates() {
        let set = |values: &[&str]| {
            written(|out| {
                let content = out.open(b'[');
                let mut starts = Vec::new();
                for value in values {
                    starts.push(out.next(content));
                    out.text(value);
                }
                out.close_set(content, &starts);
            })
        };
        assert_eq!(set(&["b", "a", "b"]), r#"["a","b","b"]"#);
        assert_eq!(set(&["a"]), r#"["a"]"#);
        assert_eq!(set(&[]), "[]");
    }
}
