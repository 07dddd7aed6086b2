//! `verify`: its flags and its summary.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, TableArgs};
use super::connect::application_name;
use super::text::{self, BAD, BOLD, Class, GOOD, WARN, counted, grouped, print_json};
use super::{confirm, progress};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::session::Green;
use crate::mapping::schema_map::Writer;
use crate::migrate::interrupted::Interrupted;
use crate::progress::ProgressPhase;
use crate::repair::{self, RepairOptions, RepairReport};
use crate::verify;
use crate::verify::definitions::DefinitionsState;
use crate::verify::options::{Coverage, VerifyOptions};
use crate::verify::report::{Restriction, RowCounts, VerifyReport, VerifyTableReport};

const PARTIAL: &str = "Partial comparison (not a proof)";
const REPAIR: &str = "Repair";

#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,

    /// File for the differences, one JSON object per line
    ///
    /// Each has table, key, kind, column, blue and green. Secrets are written as a short digest; mode 0600.
    #[arg(long, value_name = "FILE")]
    findings: Option<PathBuf>,

    /// Write secrets to the findings in clear text
    #[arg(long)]
    show_secrets: bool,

    /// List only what changed since the last run
    ///
    /// By the ledger on green. Faster than a comparison, but not a proof: it reads blue, and checks which rows of green
    /// were changed by other sessions.
    #[arg(long, conflicts_with_all = ["findings", "show_secrets", "table", "workspace", "sample", "repair"])]
    since_run: bool,

    #[command(flatten)]
    partial: PartialArgs,

    #[command(flatten)]
    repair: RepairArgs,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// The repair's id, chosen here so that an interrupted repair can be cleaned up.
    #[arg(skip = Uuid::new_v4())]
    run: Uuid,
}

/// Which part of the rows is compared.
#[derive(Debug, Clone, Args)]
struct PartialArgs {
    /// Table to compare (repeatable)
    #[arg(long, help_heading = PARTIAL, value_name = "TABLE")]
    table: Vec<String>,

    /// Workspace whose rows are compared
    #[arg(long, help_heading = PARTIAL, value_name = "NAME")]
    workspace: Option<String>,

    /// Compare a sample of about N % of each large table
    ///
    /// A number above 0, up to 100. Tables of few rows are compared whole.
    #[arg(long, help_heading = PARTIAL, value_name = "N%", value_parser = parse_percent)]
    sample: Option<f64>,
}

/// Repair of what was found.
#[derive(Debug, Clone, Args)]
struct RepairArgs {
    /// Write different and missing rows to green, compare again
    ///
    /// Stages, checks and applies them in one transaction. Tables that the data plane writes are not repaired unless
    /// named with --table.
    #[arg(long, help_heading = REPAIR, conflicts_with = "sample")]
    repair: bool,

    /// Delete rows on green that blue does not have
    #[arg(long, help_heading = REPAIR, requires = "repair")]
    delete_extra: bool,

    /// Repair without asking for confirmation
    #[arg(long, help_heading = REPAIR, requires = "repair")]
    yes: bool,

    /// Repair although other sessions use green's database
    #[arg(long, help_heading = REPAIR, requires = "repair")]
    green_online: bool,
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    let number: Option<f64> = text.trim_end_matches('%').trim().parse().ok();
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| "expected a percentage above 0 and up to 100, such as 5%".to_owned())
}

/// Runs the command.
pub async fn run(args: &VerifyArgs) -> Result<u8> {
    if args.since_run {
        return super::drift::run(&args.blue, &args.green, &args.tables, &args.common).await;
    }
    let options = VerifyOptions {
        choices: args.tables.choices(!args.repair.repair || args.repair.green_online)?,
        findings: args.findings.clone(),
        show_secrets: args.show_secrets,
        only_tables: args.partial.table.iter().cloned().collect(),
        workspace: args.partial.workspace.clone(),
        coverage: args.partial.sample.map_or(Coverage::Full, Coverage::Sample),
        recheck_tables: None,
    };
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    confirm::require_terminal(args.repair.yes || !args.repair.repair)?;
    let observer = progress::observer(&args.common, "checking both databases", ProgressPhase::label);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let (report, repair) = if args.repair.repair {
        let options =
            RepairOptions { verify: options, delete_extra: args.repair.delete_extra, run: args.run };
        let verbose = args.common.is_verbose();
        let confirm = |report: &VerifyReport, repair: &RepairReport| {
            if args.repair.yes { Box::pin(ready(Ok(true))) } else { ask(report, repair, verbose) }
        };
        let repaired = Box::pin(repair::run(blue, &green, &options, observer, &confirm)).await?;
        if args.common.format == Format::Json {
            print_json(&repaired);
        }
        (repaired.comparison, Some(repaired.repair))
    } else {
        let report = Box::pin(verify::run(blue, &green, &options, observer)).await?;
        if args.common.format == Format::Json {
            print_json(&report);
        }
        (report, None)
    };
    if args.common.format == Format::Text {
        print(&report, repair.as_ref(), args.common.is_verbose());
    }
    Ok(report.exit_code())
}

/// Shows the findings and asks whether to repair them.
fn ask(report: &VerifyReport, repair: &RepairReport, verbose: bool) -> BoxFuture<'static, Result<bool>> {
    anstream::eprintln!("\n{}\n\n{}", headline(report), counts(report, verbose));
    for line in rows_by_table(&repair.write, "write") {
        anstream::eprintln!("{line}");
    }
    for line in rows_by_table(&repair.remove, "delete") {
        anstream::eprintln!("{line}");
    }
    if repair.not_repaired > 0 {
        anstream::eprintln!("  {} cannot be repaired", counted(repair.not_repaired, "row"));
    }
    confirm::ask(&format!("Repair green ({}, database {})?", report.green.server, report.green.name))
}

fn rows_by_table(tables: &BTreeMap<String, u64>, action: &str) -> Vec<String> {
    tables.iter().map(|(table, rows)| format!("  {action} {} of {table}", counted(*rows, "row"))).collect()
}

/// After an interruption of a repair: removes its staging tables if possible, and tells the state of green.
pub async fn clean_up(args: &VerifyArgs) -> Interrupted {
    if !args.repair.repair {
        return Interrupted::Unchanged;
    }
    super::migrate::tidy_up_run(&args.green, &args.common, args.run).await
}

fn print(report: &VerifyReport, repair: Option<&RepairReport>, verbose: bool) {
    anstream::println!("{}", headline(report));
    anstream::println!("  blue   {}", text::side(&report.blue, "keyspace"));
    anstream::println!("  green  {}\n", text::side(&report.green, "database"));
    anstream::println!("{}", counts(report, verbose));
    let traffic = report.traffic;
    if traffic.different + traffic.missing + traffic.extra > 0 {
        anstream::println!(
            "\n{WARN}note:{WARN:#} {} of tables that the data plane writes differ; that is not a failure.",
            counted(traffic.different + traffic.missing + traffic.extra, "row")
        );
    }
    if report.run.is_none() {
        anstream::println!(
            "\n{WARN}note:{WARN:#} green's journal has no applied run, so no row counts as rejected."
        );
    }
    if report.definitions == DefinitionsState::NotRecorded && report.run.is_some() {
        anstream::println!(
            "\n{WARN}note:{WARN:#} the run did not record Kong's definitions (indexes, triggers …), so they are not compared."
        );
    }
    if let Some(repair) = repair {
        print_repair(repair);
    }
    print_findings(report);
    if let Some(part) = &report.part {
        anstream::println!("\n{BAD}NOT A PROOF.{BAD:#} Only a part was compared: {}.", describe_part(part));
    }
}

fn print_repair(repair: &RepairReport) {
    let tags = match repair.tags {
        0 => String::new(),
        rows => format!(", {} of tags repaired", counted(rows, "row")),
    };
    anstream::println!(
        "\n{BOLD}Repaired{BOLD:#}  {} written, {} deleted{tags}; before: {} different, {} missing, {} extra.",
        counted(repair.written, "row"),
        grouped(repair.removed),
        grouped(repair.before.different),
        grouped(repair.before.missing),
        grouped(repair.before.extra)
    );
    if repair.written + repair.removed > 0 {
        anstream::println!("  Restart every Kong node on green: it caches rows in memory.");
    }
    for row in &repair.left {
        anstream::println!(
            "  {BAD}not repaired:{BAD:#} {} {} ({})",
            row.table,
            crate::mapping::row_json::display_key(&row.key),
            row.reason
        );
    }
}

fn describe_part(part: &Restriction) -> String {
    let mut parts = Vec::new();
    if !part.tables.is_empty() {
        parts.push(format!("the tables {}", part.tables.join(", ")));
    }
    if let Some(workspace) = &part.workspace {
        parts.push(format!("rows of the workspace \"{workspace}\""));
    }
    if let Some(percent) = part.sample_percent {
        parts.push(format!("a sample of {percent} % of each large table"));
    }
    parts.join(", ")
}

fn headline(report: &VerifyReport) -> String {
    let (time, rows) = (format!("{:.1} s", report.seconds), grouped(report.summary.source));
    let kong = text::kong(report.edition, &report.kong);
    if report.clean && report.partial {
        return format!(
            "{WARN}No difference in the compared part.{WARN:#} {kong}: {rows} rows of blue in {time}."
        );
    }
    if report.clean {
        return format!("{GOOD}No difference.{GOOD:#} {kong}: {rows} rows of blue accounted for in {time}.");
    }
    let sum = &report.summary;
    format!(
        "{BAD}Differences.{BAD:#} {kong}: {} different, {} missing, {} extra, {} other findings ({rows} rows, {time}).",
        grouped(sum.different),
        grouped(sum.missing),
        grouped(sum.extra),
        grouped(report.other_findings)
    )
}

const CLASSES: [Class<RowCounts>; 9] = [
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

fn counts(report: &VerifyReport, verbose: bool) -> String {
    let with_rows: Vec<&VerifyTableReport> =
        report.tables.iter().filter(|table| table.counts.source + table.counts.extra > 0).collect();
    let is_plain = |counts: &RowCounts| counts.equal == counts.source && counts.extra == 0;
    let (listed, small) = if verbose {
        (with_rows, Vec::new())
    } else {
        text::without_small(with_rows, |table| is_plain(&table.counts).then_some(table.counts.source))
    };
    let name = |table: &VerifyTableReport| match table.writer {
        Writer::Traffic => format!("{} (traffic)", table.table),
        Writer::Admin => table.table.clone(),
    };
    let mut rows: Vec<(String, RowCounts)> =
        listed.into_iter().map(|table| (name(table), table.counts)).collect();
    if !small.is_empty() {
        let source = small.iter().map(|table| table.counts.source).sum();
        let sum = RowCounts { source, equal: source, ..RowCounts::default() };
        rows.push((format!("{} smaller tables", small.len()), sum));
    }
    text::by_class(&CLASSES, &rows, &report.summary)
}

fn print_findings(report: &VerifyReport) {
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
            crate::mapping::row_json::display_key(&finding.key)
        );
    }
    let more = report.findings.saturating_sub(report.first.len() as u64);
    match &report.findings_file {
        Some(file) => anstream::println!("  All {} are in {file}.", grouped(report.findings)),
        None if more > 0 => anstream::println!("  … and {} more; --findings FILE lists all.", grouped(more)),
        None => {}
    }
}
