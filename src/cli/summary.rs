//! The summary of `plan` and `migrate`: what happened to every row, on one screen. `-v` and JSON have all of it.

use super::text::{self, BAD, BOLD, Class, GOOD, WARN, counted, grouped, spent, wrapped};
use crate::migrate::report::{MigrationCounts, MigrationReport, MigrationTableReport, RowGroup, RunOutcome};

/// Groups that are listed; the rest is only counted.
const LISTED: usize = 6;

/// Prints the counts of every table that has rows to stderr, before the question whether to apply them.
pub fn print_counts(report: &MigrationReport, verbose: bool) {
    anstream::eprintln!("\n{}", rows_by_table(report, false, verbose));
    if let Some(line) = undone_changes(report) {
        anstream::eprintln!("\n{WARN}{}{WARN:#}", wrapped(&line, 0, 2));
    }
}

/// What `--replace` would undo, in one line.
fn undone_changes(report: &MigrationReport) -> Option<String> {
    let rows = |reason: &str| -> u64 {
        report.manual_changes.iter().filter(|group| group.reason == reason).map(|group| group.rows).sum()
    };
    (!report.manual_changes.is_empty()).then(|| {
        format!(
            "Changes made on green outside kongferry are undone: {} deleted, {} overwritten, {} inserted again.",
            counted(rows("made"), "row"),
            grouped(rows("edited")),
            grouped(rows("removed"))
        )
    })
}

fn rows_by_table(report: &MigrationReport, done: bool, verbose: bool) -> String {
    if report.incremental { changes(report, verbose) } else { counts(report, done, verbose) }
}

/// The classes of an incremental run.
const CHANGES: [Class<MigrationTableReport>; 8] = [
    ("on blue", |table| table.counts.source),
    ("unchanged", |table| table.changes.unchanged),
    ("inserted", |table| table.changes.inserted),
    ("updated", |table| table.changes.updated),
    ("deleted", |table| table.changes.deleted),
    ("rejected", |table| table.counts.rejected),
    ("expired", |table| table.counts.expired),
    ("not copied", |table| table.counts.not_copied),
];

/// Tables with changes, and the others in one line.
fn changes(report: &MigrationReport, verbose: bool) -> String {
    let with_rows = report.tables.iter().filter(|table| table.counts.source > 0 || !table.changes.is_none());
    let (unchanged, changed): (Vec<&MigrationTableReport>, Vec<&MigrationTableReport>) =
        with_rows.partition(|table| {
            !verbose && table.changes.is_none() && table.counts.rejected + table.counts.expired == 0
        });
    let mut rows: Vec<(String, MigrationTableReport)> =
        changed.into_iter().map(|table| (table.table.clone(), table.clone())).collect();
    if let Some(first) = unchanged.first() {
        let mut sum = (*first).clone();
        for table in unchanged.iter().skip(1) {
            sum.counts.add(&table.counts);
            sum.changes.add(&table.changes);
        }
        rows.push((plural(unchanged.len(), "table unchanged"), sum));
    }
    let total = MigrationTableReport {
        table: String::new(),
        writer: crate::mapping::schema_map::Writer::Admin,
        counts: report.totals,
        changes: report.changes,
        reason: None,
    };
    text::by_class(&CHANGES, &rows, &total)
}

pub fn print(report: &MigrationReport, verbose: bool) {
    anstream::println!("{}", wrapped(&headline(report), 0, 2));
    anstream::println!("  blue   {}", text::side(&report.blue, "keyspace"));
    if report.green.server.is_empty() {
        anstream::println!(
            "  green  not given; the tables of {} were created in its place\n",
            text::kong(report.edition, &report.kong)
        );
    } else {
        anstream::println!("  green  {}\n", text::side(&report.green, "database"));
    }
    anstream::println!("{}", rows_by_table(report, report.outcome == RunOutcome::Applied, verbose));
    print_not_copied(report, verbose);
    print_groups("Changed on green outside kongferry", WARN, &report.manual_changes, verbose);
    print_groups("Rejected", BAD, &report.rejects, verbose);
    print_groups("Repaired", WARN, &report.repairs, verbose);
    print_groups("Copied with a note", WARN, &report.notes, verbose);
    text::print_findings(&report.warnings);
    if let Some(file) = &report.rejects_file {
        anstream::println!("\n  Rejects file: {file}");
    }
    print_refusal(report);
    print_next(&report.next);
}

fn headline(report: &MigrationReport) -> String {
    let on_green = report.totals.applied + report.totals.repaired;
    let time = spent(report.seconds.total);
    let kong = text::kong(report.edition, &report.kong);
    match report.outcome {
        RunOutcome::Applied if report.incremental && report.changes.is_none() => format!(
            "{GOOD}Unchanged.{GOOD:#} {kong}: {} on blue, none to write ({time}).",
            counted(report.totals.source, "row")
        ),
        RunOutcome::Applied if report.incremental => format!(
            "{GOOD}Applied.{GOOD:#} {kong}: {} inserted, {} updated, {} deleted; {} unchanged ({time}).",
            grouped(report.changes.inserted),
            grouped(report.changes.updated),
            grouped(report.changes.deleted),
            grouped(report.changes.unchanged)
        ),
        RunOutcome::Applied => format!(
            "{GOOD}Applied.{GOOD:#} {kong}: {} on green after {time}{}.",
            counted(on_green, "row"),
            rate(on_green, report.seconds.total)
        ),
        RunOutcome::Rehearsed => format!(
            "{GOOD}Rehearsed.{GOOD:#} {kong}: {} of {} would be applied; green was not written ({time}).",
            grouped(on_green),
            counted(report.totals.source, "row")
        ),
        RunOutcome::Refused => format!("{BAD}Refused; green is unchanged.{BAD:#} {kong}, after {time}."),
    }
}

/// Empty if there is not enough to measure.
fn rate(rows: u64, seconds: f64) -> String {
    if seconds < 1.0 || rows < 10_000 {
        return String::new();
    }
    format!(" ({} rows/s)", grouped((rows as f64 / seconds) as u64))
}

/// The classes of a first run.
fn classes(done: bool) -> [Class<MigrationCounts>; 6] {
    [
        ("on blue", |counts| counts.source),
        (if done { "applied" } else { "to apply" }, |counts| counts.applied),
        ("repaired", |counts| counts.repaired),
        ("rejected", |counts| counts.rejected),
        ("expired", |counts| counts.expired),
        ("not copied", |counts| counts.not_copied),
    ]
}

fn counts(report: &MigrationReport, done: bool, verbose: bool) -> String {
    let folded = folded(&report.tables, verbose);
    let mut rows: Vec<(String, MigrationCounts)> =
        folded.listed.iter().map(|table| (table.table.clone(), table.counts)).collect();
    for (tables, noun) in [(&folded.small, "smaller table"), (&folded.excluded, "table that does not move")] {
        if let Some(sum) = sum(tables) {
            rows.push((plural(tables.len(), noun), sum));
        }
    }
    let table = text::by_class(&classes(done), &rows, &report.totals);
    let empty = report.tables.iter().filter(|table| table.counts.source == 0).count();
    match empty {
        0 => table,
        _ => format!("{table}\n  ({} empty on blue)", counted(empty as u64, "table")),
    }
}

fn plural(tables: usize, noun: &str) -> String {
    match (tables, noun) {
        (1, "table unchanged") => "1 without a change".to_owned(),
        (1, _) => format!("1 {noun}"),
        (many, "table unchanged") => format!("{many} without a change"),
        (many, "table that does not move") => format!("{many} that do not move"),
        (many, _) => format!("{many} {noun}s"),
    }
}

/// Tables with rows: those with a line each, and those that are added up.
struct Folded<'a> {
    listed: Vec<&'a MigrationTableReport>,
    small: Vec<&'a MigrationTableReport>,
    excluded: Vec<&'a MigrationTableReport>,
}

/// A table is listed if rows of it were not applied as they are, or if it is one of the largest.
fn folded(tables: &[MigrationTableReport], verbose: bool) -> Folded<'_> {
    let with_rows = tables.iter().filter(|table| table.counts.source > 0);
    let (excluded, moved): (Vec<&MigrationTableReport>, Vec<&MigrationTableReport>) =
        with_rows.partition(|table| !verbose && table.counts.not_copied == table.counts.source);
    if verbose {
        return Folded { listed: moved, small: Vec::new(), excluded };
    }
    let (listed, small) = text::without_small(moved, |table| {
        (table.counts.applied == table.counts.source).then_some(table.counts.source)
    });
    Folded { listed, small, excluded }
}

fn sum(tables: &[&MigrationTableReport]) -> Option<MigrationCounts> {
    let mut sum = MigrationCounts::default();
    tables.iter().for_each(|table| sum.add(&table.counts));
    (!tables.is_empty()).then_some(sum)
}

fn print_not_copied(report: &MigrationReport, verbose: bool) {
    let excluded: Vec<(&str, u64, &str)> = report
        .tables
        .iter()
        .filter(|table| table.counts.not_copied > 0)
        .filter_map(|table| Some((table.table.as_str(), table.counts.not_copied, table.reason.as_deref()?)))
        .collect();
    text::print_excluded("Not copied", &excluded, verbose);
}

fn print_groups(title: &str, style: anstyle::Style, groups: &[RowGroup], verbose: bool) {
    if groups.is_empty() {
        return;
    }
    anstream::println!("\n{style}{title}{style:#}");
    let listed = if verbose { groups.len() } else { LISTED };
    let place = |group: &RowGroup| match &group.column {
        Some(column) => format!("{}.{column}", group.table),
        None => group.table.clone(),
    };
    let width = groups.iter().take(listed).map(|group| place(group).len()).max().unwrap_or(0);
    for group in groups.iter().take(listed) {
        let examples = group.examples.iter().map(crate::mapping::row_json::display_key);
        let examples: Vec<String> = examples.take(if verbose { 3 } else { 1 }).collect();
        let such_as = if group.rows as usize > examples.len() { "such as " } else { "" };
        let line = format!("{}: {such_as}{}", group.reason, examples.join(", "));
        let used = 2 + 7 + 2 + width + 2;
        anstream::println!(
            "  {:>7}  {:<width$}  {}",
            grouped(group.rows),
            place(group),
            wrapped(&line, used, used)
        );
    }
    if groups.len() > listed {
        anstream::println!("  … and {} (-v lists all)", counted((groups.len() - listed) as u64, "more kind"));
    }
}

fn print_refusal(report: &MigrationReport) {
    let Some(refusal) = &report.refusal else { return };
    anstream::println!("\n{BAD}Refused:{BAD:#} {}", wrapped(&refusal.problem, 9, 2));
    refusal.details.iter().for_each(|detail| anstream::println!("  {}", wrapped(detail, 2, 4)));
    if let Some(remedy) = &refusal.remedy {
        anstream::println!("{WARN}to do:{WARN:#} {}", wrapped(remedy, 7, 7));
    }
}

fn print_next(next: &[String]) {
    if next.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Next{BOLD:#}");
    for (at, step) in next.iter().enumerate() {
        anstream::println!("  {}. {}", at + 1, wrapped(step, 5, 5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::schema_map::Writer;
    use crate::migrate::report::Changes;

    fn table(name: &str, counts: MigrationCounts) -> MigrationTableReport {
        MigrationTableReport {
            table: name.to_owned(),
            writer: Writer::Admin,
            counts,
            changes: Changes::default(),
            reason: None,
        }
    }

    fn moved(name: &str, rows: u64) -> MigrationTableReport {
        table(name, MigrationCounts { source: rows, applied: rows, ..MigrationCounts::default() })
    }

    fn names(tables: &[&MigrationTableReport]) -> String {
        tables.iter().map(|table| table.table.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn small_tables_are_added_up_unless_rows_were_rejected() {
        let mut tables: Vec<MigrationTableReport> =
            (0..10).map(|n| moved(&format!("t{n}"), 100 - n)).collect();
        tables.push(table(
            "partly",
            MigrationCounts { source: 2, applied: 1, rejected: 1, ..MigrationCounts::default() },
        ));
        tables.push(table(
            "tags",
            MigrationCounts { source: 60, not_copied: 60, ..MigrationCounts::default() },
        ));
        tables.push(moved("empty", 0));
        let folded = folded(&tables, false);
        assert_eq!(names(&folded.listed), "t0 t1 t2 t3 t4 t5 t6 t7 partly");
        assert_eq!((names(&folded.small), names(&folded.excluded)), ("t8 t9".to_owned(), "tags".to_owned()));
        assert_eq!(super::folded(&tables, true).listed.len(), 12);
    }
}
