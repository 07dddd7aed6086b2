//! The format of kong.conf, as Penlight's `config` module reads it with the settings that Kong gives it.

/// A line `key = value`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    /// Whether the reader takes the value for a number, and thereby changes it.
    pub(super) is_changed: bool,
}

/// The entries before the first section; like Kong, it skips lines that are none.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    let lines = logical_lines(text).into_iter().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split_once('=').map(|(key, value)| entry(key, value.trim()))).collect()
}

fn entry(key: &str, value: &str) -> Entry {
    let key = key.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    Entry { key, value: without_comment(value), is_changed: becomes_another_number(value) }
}

/// The lines that are neither blank nor comments, those that end in a backslash joined with the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut continued = String::new();
    for line in text.lines() {
        let start = line.trim_start();
        if start.is_empty() || start.starts_with(['#', ';']) {
            continue;
        }
        match line.trim_end().strip_suffix('\\') {
            Some(part) => continued.push_str(part),
            None => lines.push(std::mem::take(&mut continued) + line),
        }
    }
    lines
}

/// The value up to the first `#` without a backslash before it; `\#` is a `#`. Quotes have no meaning to Kong.
fn without_comment(value: &str) -> String {
    let bytes = value.as_bytes();
    let comment = value
        .match_indices('#')
        .map(|(at, _)| at)
        .find(|at| at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\\'));
    let kept = comment.and_then(|at| value.get(..at)).unwrap_or(value);
    kept.trim().replace("\\#", "#")
}

/// Whether Kong's reader takes the text for a number whose text is another one: `007` becomes `7`, a number of
/// twenty digits `1.2345678901235e+19`.
fn becomes_another_number(value: &str) -> bool {
    let is_number = value.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-')
        && value.contains(|c: char| c.is_ascii_digit())
        && (value.parse::<f64>().is_ok() || is_hexadecimal(value));
    is_number && !is_printed_alike(value)
}

fn is_hexadecimal(value: &str) -> bool {
    let value = value.trim_start_matches(['+', '-']);
    let digits = value.strip_prefix("0x").or(value.strip_prefix("0X"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit()))
}

/// Whether printing the number gives the text again; Lua prints up to 14 digits.
fn is_printed_alike(value: &str) -> bool {
    let unsigned = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "1"));
    let digits = unsigned.chars().filter(char::is_ascii_digit).count();
    let plain = unsigned.chars().all(|c| c.is_ascii_digit() || c == '.');
    let whole_is_shortest = whole == "0" || (!whole.is_empty() && !whole.starts_with('0'));
    plain
        && digits <= 14
        && whole_is_shortest
        && !fraction.is_empty()
        && !fraction.ends_with('0')
        && value != "-0"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, key: &str) -> Option<String> {
        entries(text).into_iter().rfind(|entry| entry.key == key).map(|entry| entry.value)
    }

    #[test]
    fn lines_are_read_as_kong_reads_them() {
        let text = "# pg_host = no\n; pg_host = no\n\n  pg_host=db1   # the primary\npg-user = a = b\n\
                    pg_password = pass\\#word#comment\npg_database = x\npg_database = y\nnonsense\n\
                    cassandra_contact_points = a, \\\n  b\n";
        assert_eq!(value(text, "pg_host").as_deref(), Some("db1"));
        assert_eq!(value(text, "pg_user").as_deref(), Some("a = b"));
        assert_eq!(value(text, "pg_password").as_deref(), Some("pass#word"));
        assert_eq!(value(text, "pg_database").as_deref(), Some("y"));
        assert_eq!(value(text, "cassandra_contact_points").as_deref(), Some("a,   b"));
    }

    #[test]
    fn quotes_belong_to_the_value_as_they_do_for_kong() {
        assert_eq!(value("pg_password = \"x y\"", "pg_password").as_deref(), Some("\"x y\""));
    }

    #[test]
    fn a_comment_is_no_value_and_a_section_ends_the_entries() {
        assert_eq!(value("pg_schema =   # none", "pg_schema").as_deref(), Some(""));
        assert_eq!(value("[x]\npg_host = db1", "pg_host"), None);
    }

    #[test]
    fn a_number_that_is_printed_differently_is_changed() {
        let is_changed = |value: &str| entries(&format!("pg_password = {value}"))[0].is_changed;
        for value in ["007", "+5", "1e3", "0x10", "12345678901234567890", "1.50", "5."] {
            assert!(is_changed(value), "{value}");
        }
        for value in
            ["7", "-7", "12345678901234", "1.5", "0.25", "007a", "+x", "-", "7 # seven", "2023-01-02"]
        {
            assert!(!is_changed(value), "{value}");
        }
    }
}
