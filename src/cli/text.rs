//! Output: colors, lines that fit the screen, and JSON.
//!
//! Red: stopped or left behind. Yellow: to be reviewed. Green: done.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::database_info::DatabaseInfo;
use crate::error::Error;
use crate::finding::{Finding, Severity};

pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const WARN: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const BOLD: Style = Style::new().bold();

/// `1234567` as "1,234,567".
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with its noun: "1 row", "2 rows".
pub fn counted(number: u64, singular: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {singular}{ending}", grouped(number))
}

/// A duration in seconds as "4.2 s", "1 min 20 s" or "2 h 05 min".
pub fn spent(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// Breaks a text between words at the width of the screen; `used` columns of the first line are occupied already, and
/// the other lines are indented by `indent`. Text for a pipe stays on one line.
pub fn wrapped(text: &str, used: usize, indent: usize) -> String {
    screen().map_or_else(|| text.to_owned(), |columns| wrapped_at(columns, text, used, indent))
}

/// The columns of the screen, if there is one.
fn screen() -> Option<usize> {
    console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns))
}

/// Whether a text of several lines fits on the screen.
pub fn fits(text: &str) -> bool {
    screen().is_none_or(|columns| fits_in(columns, text))
}

fn fits_in(columns: usize, text: &str) -> bool {
    text.lines().all(|line| console::measure_text_width(line) <= columns)
}

fn wrapped_at(columns: usize, text: &str, used: usize, indent: usize) -> String {
    let mut shown = String::with_capacity(text.len() + 16);
    let mut at = used;
    for (number, word) in text.split(' ').enumerate() {
        let length = console::measure_text_width(word);
        if number > 0 && at + 1 + length > columns {
            shown.push('\n');
            shown.push_str(&" ".repeat(indent));
            at = indent;
        } else if number > 0 {
            shown.push(' ');
            at += 1;
        }
        shown.push_str(word);
        at += length;
    }
    shown
}

/// Items of a list that get a line of their own; the smaller ones are added up.
const LARGE: usize = 8;

/// Splits a list, in its order, into listed and small items. `size` is `None` for an item that is always listed.
pub fn without_small<T>(items: Vec<&T>, size: impl Fn(&T) -> Option<u64>) -> (Vec<&T>, Vec<&T>) {
    let mut plain: Vec<(u64, usize)> =
        items.iter().enumerate().filter_map(|(at, item)| Some((size(item)?, at))).collect();
    plain.sort_by_key(|(size, at)| (std::cmp::Reverse(*size), *at));
    // A single small item needs one line, as its sum would.
    let enough = if plain.len() == LARGE + 1 { plain.len() } else { LARGE };
    let small: Vec<usize> = plain.into_iter().skip(enough).map(|(_, at)| at).collect();
    let is_small = |at: usize| small.contains(&at);
    let listed = items.iter().enumerate().filter(|(at, _)| !is_small(*at)).map(|(_, item)| *item).collect();
    (listed, items.iter().enumerate().filter(|(at, _)| is_small(*at)).map(|(_, item)| *item).collect())
}

/// The edition and line of Kong.
pub fn kong(edition: &str, line: &str) -> String {
    if edition == "enterprise" { format!("Kong Enterprise {line}") } else { format!("Kong {line}") }
}

/// One side in one line, without the suffix that distributors add to the version.
pub fn side(side: &DatabaseInfo, container: &str) -> String {
    let version = side.version.split(" (").next().unwrap_or(&side.version);
    format!("{} · {version} · {container} {}", side.server, side.name)
}

/// A table without lines, the first column to the left, the others to the right.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((2, 0));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A class of rows: its name and its count for a table.
pub type Class<C> = (&'static str, fn(&C) -> u64);

/// Rows by table and class, with the totals below. Classes without rows are left out, except the first two. The last
/// classes are only summed up if the screen is too narrow.
pub fn by_class<C>(classes: &[Class<C>], rows: &[(String, C)], total: &C) -> String {
    by_class_within(screen().unwrap_or(usize::MAX), classes, rows, total)
}

fn by_class_within<C>(columns: usize, classes: &[Class<C>], rows: &[(String, C)], total: &C) -> String {
    let mut shown: Vec<&Class<C>> = classes
        .iter()
        .enumerate()
        .filter(|(at, (_, of))| *at < 2 || of(total) > 0)
        .map(|(_, class)| class)
        .collect();
    let mut summed = Vec::new();
    loop {
        let table = with_classes(&shown, rows, total);
        if shown.len() > 2 && !fits_in(columns, &table) {
            summed.extend(shown.pop().map(|(name, of)| format!("{name}: {}", grouped(of(total)))));
            continue;
        }
        summed.reverse();
        return if summed.is_empty() { table } else { format!("{table}\n  ({})", summed.join("; ")) };
    }
}

fn with_classes<C>(shown: &[&Class<C>], rows: &[(String, C)], total: &C) -> String {
    let header: Vec<&str> = std::iter::once("table").chain(shown.iter().map(|(name, _)| *name)).collect();
    let mut table = table(&header);
    let blank = |number: u64| if number == 0 { "·".to_owned() } else { grouped(number) };
    let mut add = |name: &str, counts: &C| {
        table.add_row(std::iter::once(name.to_owned()).chain(shown.iter().map(|(_, of)| blank(of(counts)))));
    };
    rows.iter().for_each(|(name, counts)| add(name, counts));
    add("total", total);
    table.trim_fmt()
}

pub fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => anstream::println!("{text}"),
        Err(error) => anstream::eprintln!("error: cannot write the result as JSON: {error}"),
    }
}

pub fn print_error(error: &Error) {
    let columns = console::Term::stderr().size_checked().map(|(_, columns)| usize::from(columns));
    for line in error_lines(error, columns) {
        anstream::eprintln!("{line}");
    }
}

/// The paragraphs of an error, wrapped at `columns`; not wrapped for a pipe.
fn error_lines(error: &Error, columns: Option<usize>) -> Vec<String> {
    let fit = |text: &str, used, indent| {
        columns.map_or_else(|| text.to_owned(), |columns| wrapped_at(columns, text, used, indent))
    };
    let mut lines = vec![format!("{BAD}error:{BAD:#} {}", fit(error.message(), 7, 2))];
    lines.extend(error.details().iter().map(|detail| {
        // A detail with line breaks, such as a command or a statement, is printed as it is.
        if detail.contains('\n') { format!("  {detail}") } else { format!("  {}", fit(detail, 2, 4)) }
    }));
    lines.extend(error.causes().iter().map(|cause| format!("  because: {}", fit(cause, 11, 4))));
    lines.extend(error.remedy_text().map(|remedy| format!("{WARN}to do:{WARN:#} {}", fit(remedy, 7, 2))));
    lines
}

/// Prints an error to stdout (docs/schemas/error.schema.json).
pub fn print_error_json(error: &Error) {
    print_json(&serde_json::json!({
        "outcome": "error",
        "kind": error.kind().code(),
        "message": error.message(),
        "details": error.details(),
        "causes": error.causes(),
        "remedy": error.remedy_text(),
    }));
}

/// Tables that are not copied, with their rows and the reason: by name in one line, or one by one.
pub fn print_excluded(title: &str, tables: &[(&str, u64, &str)], verbose: bool) {
    if tables.is_empty() {
        return;
    }
    if verbose {
        anstream::println!("\n{BOLD}{title}{BOLD:#}");
        for (table, _, reason) in tables {
            anstream::println!("  {table:<30} {}", wrapped(reason, 33, 33));
        }
        return;
    }
    // A table stays on one line with its number.
    let names: Vec<String> =
        tables.iter().map(|(table, rows, _)| format!("{table}\u{a0}{}", grouped(*rows))).collect();
    let used = title.len() + 2;
    let line = wrapped(&format!("{} (-v lists the reasons)", names.join(", ")), used, used);
    anstream::println!("\n{BOLD}{title}{BOLD:#}  {}", line.replace('\u{a0}', " "));
}

pub fn print_findings(findings: &[Finding]) {
    for finding in findings {
        let (word, style) = match finding.severity {
            Severity::Blocker => ("first", BAD),
            Severity::Ok | Severity::Warning | Severity::Unproven => ("note", WARN),
        };
        anstream::println!("\n{style}{word}:{style:#} {}", wrapped(&format!("{}.", finding.message), 7, 7));
        anstream::println!("       {}", wrapped(&finding.remedy, 7, 7));
        if let Some(map) = &finding.schema_map {
            anstream::println!("       schema map: {map}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            (counted(1, "row"), counted(0, "row"), counted(1200, "row")),
            ("1 row".into(), "0 rows".into(), "1,200 rows".into())
        );
    }

    #[test]
    fn time_is_told_in_what_people_count_in() {
        assert_eq!(
            (spent(0.26), spent(59.4), spent(80.0), spent(7500.0)),
            ("0.3 s".into(), "59.4 s".into(), "1 min 20 s".into(), "2 h 05 min".into())
        );
    }

    #[test]
    fn the_largest_are_listed_in_their_order() {
        let sizes: Vec<u64> = vec![1, 90, 2, 80, 70, 60, 50, 40, 30, 20, 0];
        let (listed, small) = without_small(sizes.iter().collect(), |size| (*size > 0).then_some(*size));
        assert_eq!(listed, [&90, &80, &70, &60, &50, &40, &30, &20, &0]);
        assert_eq!(small, [&1, &2]);
        let (listed, small) = without_small(sizes.iter().take(9).collect(), |size| Some(*size));
        assert_eq!((listed.len(), small.len()), (9, 0));
    }

    #[test]
    fn a_narrow_screen_sums_up_the_last_classes() {
        let classes: [Class<u64>; 4] =
            [("on blue", |n| *n), ("applied", |n| *n), ("rejected", |n| n / 2), ("not copied", |n| n / 4)];
        let rows = [("consumers".to_owned(), 8)];
        let lines = |columns| by_class_within(columns, &classes, &rows, &8).lines().count();
        assert_eq!((lines(80), lines(40)), (3, 4));
        let narrow = by_class_within(40, &classes, &rows, &8);
        assert!(narrow.ends_with("  (not copied: 2)") && fits_in(40, &narrow), "{narrow}");
        assert!(by_class_within(10, &classes, &rows, &8).ends_with("  (rejected: 4; not copied: 2)"));
    }

    #[test]
    fn an_error_fits_the_screen_and_a_command_stays_whole() {
        let error = Error::refused("the records send 5 % to green, which is no step of cutover.toml")
            .detail("Also: the key of the provider is not there, and nobody can be asked for it. Set it.")
            .detail("curl -X PATCH http://127.0.0.1:8081/api/v1/servers/localhost/zones/example.test. <<JSON\n{}\nJSON")
            .remedy("Put a step with that share back into the file, or roll back with the command above.");
        let plain = |columns| {
            let text = error_lines(&error, columns).join("\n");
            console::strip_ansi_codes(&text).into_owned()
        };
        let narrow = plain(Some(50));
        let long: Vec<&str> = narrow.lines().filter(|line| console::measure_text_width(line) > 50).collect();
        assert!(matches!(long[..], [command] if command.contains("curl")), "{narrow}");
        assert!(narrow.contains("\n{}\nJSON"), "{narrow}");
        assert!(
            plain(None).contains("error: the records send 5 % to green, which is no step of cutover.toml\n")
        );
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped_at(12, "one two three four", 3, 2), "one two\n  three four");
        assert_eq!(wrapped_at(5, "unbreakable", 0, 2), "unbreakable");
    }
}
