//! How results and errors look: a summary that fits a screen, colours that mean something, JSON for programs.
//!
//! Red is what stopped or was left behind, yellow what wants a look, green what is done.

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::error::Error;
use crate::inspect::{Finding, Weight};
use crate::migrate::report::{Counts, Group, Outcome, Report, TableReport};

/// Something done.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Something that wants a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// Something that stopped, or was left behind.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// A heading.
pub const BOLD: Style = Style::new().bold();

/// Groups of one kind that are listed before the rest is only counted.
const LISTED: usize = 8;

/// A number with its thousands apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

/// A table without lines, the first column to the left, the others to the right.
pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if at == 0 { 2 } else { 1 }, 1));
        if at > 0 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Prints a result for programs.
pub fn print_json<T: Serialize>(value: &T) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => anstream::println!("{text}"),
        Err(error) => anstream::eprintln!("error: the result cannot be written as JSON: {error}"),
    }
}

/// Prints an error to stderr: what failed, why, what to do.
pub fn print_error(error: &Error) {
    anstream::eprintln!("{BAD}error:{BAD:#} {}", error.message());
    for detail in error.details() {
        anstream::eprintln!("  {detail}");
    }
    for cause in error.causes() {
        anstream::eprintln!("  because: {cause}");
    }
    if let Some(remedy) = error.remedy_text() {
        anstream::eprintln!("{WARN}to do:{WARN:#} {remedy}");
    }
}

/// Prints an error to stdout for programs.
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

/// The counts of every table that has rows, to stderr: what a person is asked about.
pub fn print_counts(report: &Report) {
    anstream::eprintln!("{}", counts(report));
}

fn counts(report: &Report) -> String {
    let mut shown = table(&["table", "on blue", "applied", "repaired", "rejected", "expired", "not copied"]);
    let (with_rows, empty): (Vec<&TableReport>, Vec<&TableReport>) =
        report.tables.iter().partition(|table| table.counts.source > 0);
    for one in with_rows {
        shown.add_row(count_row(&one.table, &one.counts));
    }
    shown.add_row(count_row("total", &report.totals));
    let empty = match empty.len() {
        0 => String::new(),
        many => format!("\n  ({many} more tables have no rows on blue)"),
    };
    format!("{shown}{empty}")
}

fn count_row(name: &str, counts: &Counts) -> Vec<String> {
    let blank = |number: u64| if number == 0 { "·".to_owned() } else { grouped(number) };
    vec![
        name.to_owned(),
        grouped(counts.source),
        blank(counts.applied),
        blank(counts.repaired),
        blank(counts.rejected),
        blank(counts.expired),
        blank(counts.not_copied),
    ]
}

/// The summary of `plan` and `migrate`, to stdout.
pub fn print_report(report: &Report) {
    anstream::println!("{}", headline(report));
    anstream::println!(
        "  blue   {} · {} · keyspace {}",
        report.blue.server,
        report.blue.version,
        report.blue.name
    );
    anstream::println!(
        "  green  {} · {} · database {}\n",
        report.green.server,
        report.green.version,
        report.green.name
    );
    anstream::println!("{}", counts(report));
    print_left(report);
    print_groups("Rejected", BAD, &report.rejects);
    print_groups("Repaired", WARN, &report.repairs);
    print_groups("Worth a look", WARN, &report.notes);
    print_findings(&report.warnings);
    if let Some(file) = &report.rejects_file {
        anstream::println!("\n  Rejects file: {file}");
    }
    if let Some(refusal) = &report.refusal {
        anstream::println!("\n{BAD}Refused:{BAD:#} {}", refusal.problem);
        refusal.details.iter().for_each(|detail| anstream::println!("  {detail}"));
        if let Some(remedy) = &refusal.remedy {
            anstream::println!("{WARN}to do:{WARN:#} {remedy}");
        }
    }
    print_next(&report.next);
}

fn headline(report: &Report) -> String {
    let rate = |rows: u64, seconds: f64| if seconds > 0.0 { rows as f64 / seconds } else { 0.0 };
    let on_green = report.totals.applied + report.totals.repaired;
    let time = format!("{:.1} s", report.seconds.total);
    let kong = format!("Kong {}", report.kong);
    match report.outcome {
        Outcome::Applied => format!(
            "{GOOD}Applied.{GOOD:#} {kong}: {} rows stand on green after {time} ({} rows/s).",
            grouped(on_green),
            grouped(rate(on_green, report.seconds.total) as u64)
        ),
        Outcome::Rehearsed => format!(
            "{GOOD}Rehearsed.{GOOD:#} {kong}: {} of {} rows would be applied; green was not written ({time}).",
            grouped(on_green),
            grouped(report.totals.source)
        ),
        Outcome::Refused => format!("{BAD}Refused; green is as it was.{BAD:#} {kong}, after {time}."),
    }
}

fn print_left(report: &Report) {
    let left: Vec<&TableReport> =
        report.tables.iter().filter(|table| table.counts.not_copied > 0 && table.reason.is_some()).collect();
    if left.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Not copied{BOLD:#}");
    for table in left {
        anstream::println!("  {:<30} {}", table.table, table.reason.as_deref().unwrap_or_default());
    }
}

fn print_groups(title: &str, style: Style, groups: &[Group]) {
    if groups.is_empty() {
        return;
    }
    anstream::println!("\n{style}{title}{style:#}");
    for group in groups.iter().take(LISTED) {
        let column = group.column.as_deref().map(|column| format!(".{column}")).unwrap_or_default();
        let place = format!("{}{column}", group.table);
        let examples: Vec<String> =
            group.examples.iter().take(2).map(crate::green::apply::shown_key).collect();
        anstream::println!(
            "  {:>9}  {place:<34} {}, such as {}",
            grouped(group.rows),
            group.reason,
            examples.join(", ")
        );
    }
    if groups.len() > LISTED {
        anstream::println!("  … and {} more kinds (--format json lists all)", groups.len() - LISTED);
    }
}

/// What was found and weighs, one sentence each with its remedy.
pub fn print_findings(findings: &[Finding]) {
    for finding in findings {
        let (word, style) = match finding.weight {
            Weight::Stop => ("first", BAD),
            Weight::Warn => ("note", WARN),
        };
        anstream::println!("\n{style}{word}:{style:#} {}.\n       {}", finding.problem, finding.remedy);
    }
}

fn print_next(next: &[String]) {
    if next.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Next{BOLD:#}");
    for (at, step) in next.iter().enumerate() {
        anstream::println!("  {}. {step}", at + 1);
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
}
