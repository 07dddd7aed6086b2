//! `verify`: its flags and its summary.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::connect::{BlueArgs, CommonArgs, Format, GreenArgs};
use super::migrate::{TableArgs, application_name};
use super::progress;
use super::text::{self, BAD, BOLD, Class, GOOD, WARN, counted, grouped, print_json};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::session::Green;
use crate::mapping::schema_map::Writer;
use crate::progress::Phase;
use crate::verify::report::{Counts, Report, TableReport};
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

    /// Only say what changed on blue since the last run, by the ledger on green
    ///
    /// Quicker than a comparison, and no proof: it looks at blue only, and at whether somebody changed green.
    #[arg(long, conflicts_with_all = ["findings", "show_secrets", "table"])]
    since_run: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// Runs the command.
pub async fn run(args: &VerifyArgs) -> Result<u8> {
    if args.since_run {
        return super::drift::run(&args.blue, &args.green, &args.tables, &args.common).await;
    }
    let options = Options {
        choices: args.tables.choices(true)?,
        findings: args.findings.clone(),
        show_secrets: args.show_secrets,
        only: args.table.iter().cloned().collect(),
    };
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    let observer = progress::observer(&args.common, "looking at both sides", Phase::word);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let report = Box::pin(verify::run(blue, &green, &options, observer)).await?;
    match args.common.format {
        Format::Json => print_json(&report),
        Format::Text => print(&report, args.common.verbose > 0),
    }
    Ok(report.exit_code())
}

fn print(report: &Report, verbose: bool) {
    anstream::println!("{}", headline(report));
    anstream::println!("  blue   {}", text::side(&report.blue, "keyspace"));
    anstream::println!("  green  {}\n", text::side(&report.green, "database"));
    anstream::println!("{}", counts(report, verbose));
    let traffic = report.traffic;
    if traffic.different + traffic.missing + traffic.extra > 0 {
        anstream::println!(
            "\n{WARN}note:{WARN:#} of the tables that the data plane writes while requests flow, {} differ; they fail nothing.",
            counted(traffic.different + traffic.missing + traffic.extra, "row")
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

/// The classes, in the order in which they are shown.
const CLASSES: [Class<Counts>; 9] = [
    ("on blue", |counts| counts.source),
    ("equal", |counts| counts.equal),
    ("repaired", |counts| counts.repaired),
    ("expired", |counts| counts.expired),
    ("rejected", |counts| counts.rejected),
    ("different", |counts| counts.different),
    ("missing", |counts| counts.missing),
    ("extra", |counts| counts.extra),
    ("not copied", |counts| counts.not_copied),
];

fn counts(report: &Report, verbose: bool) -> String {
    let with_rows: Vec<&TableReport> =
        report.tables.iter().filter(|table| table.counts.source + table.counts.extra > 0).collect();
    let is_plain = |counts: &Counts| counts.equal == counts.source && counts.extra == 0;
    let (listed, small) = if verbose {
        (with_rows, Vec::new())
    } else {
        text::without_small(with_rows, |table| is_plain(&table.counts).then_some(table.counts.source))
    };
    let name = |one: &TableReport| match one.writer {
        Writer::Traffic => format!("{} (traffic)", one.table),
        Writer::Admin => one.table.clone(),
    };
    let mut rows: Vec<(String, Counts)> = listed.into_iter().map(|one| (name(one), one.counts)).collect();
    if !small.is_empty() {
        let source = small.iter().map(|one| one.counts.source).sum();
        let sum = Counts { source, equal: source, ..Counts::default() };
        rows.push((format!("{} smaller tables", small.len()), sum));
    }
    text::by_class(&CLASSES, &rows, &report.summary)
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
