//! `verify`: its flags and its summary.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::connect::{BlueArgs, CommonArgs, Format, GreenArgs};
use super::migrate::{TableArgs, application_name};
use super::progress;
use super::text::{BAD, BOLD, GOOD, WARN, grouped, print_json, table};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::session::Green;
use crate::mapping::schema_map::Writer;
use crate::verify::report::{Counts, Report};
use crate::verify::{self, Options};

/// Arguments of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,

    /// Where differences are written, one JSON object per line
    ///
    /// Each has table, key, kind, column, blue and green. The file's mode is 0600; secrets stand in it as a short
    /// digest.
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,

    /// Write secrets out in the findings
    #[arg(long)]
    show_secrets: bool,

    /// Compare this table only (repeatable)
    #[arg(long, value_name = "TABLE")]
    table: Vec<String>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Runs the command.
pub async fn run(args: &VerifyArgs) -> Result<u8> {
    let options = Options {
        choices: args.tables.choices(true)?,
        findings: args.findings.clone(),
        show_secrets: args.show_secrets,
        only: args.table.iter().cloned().collect(),
    };
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let observer = progress::observer(&args.common, "looking at both sides");
    let report = Box::pin(verify::run(blue, &green, &options, observer)).await?;
    match args.common.format {
        Format::Json => print_json(&report),
        Format::Text => print(&report),
    }
    Ok(report.exit_code())
}

fn print(report: &Report) {
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
    let traffic = report.traffic;
    if traffic.different + traffic.missing + traffic.extra > 0 {
        anstream::println!(
            "\n{WARN}note:{WARN:#} {} rows that the data plane writes while requests flow are unlike; they fail nothing.",
            grouped(traffic.different + traffic.missing + traffic.extra)
        );
    }
    if report.run.is_none() {
        anstream::println!(
            "\n{WARN}note:{WARN:#} green's journal knows no applied run: nothing counts as rejected."
        );
    }
    if report.partial {
        anstream::println!(
            "\n{WARN}note:{WARN:#} only some tables were compared: this is a quick look, not a proof."
        );
    }
    print_first(report);
}

fn headline(report: &Report) -> String {
    let (time, rows) = (format!("{:.1} s", report.seconds), grouped(report.summary.source));
    if report.clean {
        return format!(
            "{GOOD}The same.{GOOD:#} Kong {}: {rows} rows of blue accounted for in {time}.",
            report.kong
        );
    }
    let sum = &report.summary;
    format!(
        "{BAD}Not the same.{BAD:#} Kong {}: {} different, {} missing, {} extra, {} other findings ({rows} rows, {time}).",
        report.kong,
        grouped(sum.different),
        grouped(sum.missing),
        grouped(sum.extra),
        grouped(report.other_findings)
    )
}

fn counts(report: &Report) -> String {
    let mut shown = table(&[
        "table",
        "on blue",
        "equal",
        "repaired",
        "expired",
        "rejected",
        "different",
        "missing",
        "extra",
    ]);
    let with_rows = |counts: &Counts| counts.source + counts.extra > 0;
    for one in report.tables.iter().filter(|table| with_rows(&table.counts)) {
        let mark = if one.writer == Writer::Traffic { " (traffic)" } else { "" };
        shown.add_row(row(&format!("{}{mark}", one.table), &one.counts));
    }
    shown.add_row(row("total", &report.summary));
    shown.to_string()
}

fn row(name: &str, counts: &Counts) -> Vec<String> {
    let blank = |number: u64| if number == 0 { "·".to_owned() } else { grouped(number) };
    let numbers = [
        counts.equal,
        counts.repaired,
        counts.expired,
        counts.rejected,
        counts.different,
        counts.missing,
        counts.extra,
    ];
    let mut cells = vec![name.to_owned(), grouped(counts.source)];
    cells.extend(numbers.map(blank));
    cells
}

fn print_first(report: &Report) {
    if report.first.is_empty() {
        return;
    }
    anstream::println!("\n{BOLD}Findings{BOLD:#}");
    for finding in &report.first {
        let kind = serde_json::to_value(finding.kind).unwrap_or_default();
        let column = finding.column.as_deref().map(|column| format!(".{column}")).unwrap_or_default();
        anstream::println!(
            "  {:<24} {}{column} {}",
            kind.as_str().unwrap_or_default(),
            finding.table,
            crate::green::apply::shown_key(&finding.key)
        );
    }
    let more = report.findings.saturating_sub(report.first.len() as u64);
    match &report.findings_file {
        Some(file) => anstream::println!("  All {} are in {file}.", grouped(report.findings)),
        None if more > 0 => anstream::println!("  … and {} more; --findings FILE lists all.", grouped(more)),
        None => {}
    }
}
