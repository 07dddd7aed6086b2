//! `inspect`: its flags, and the state of both databases.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, TableArgs};
use super::connect::application_name;
use super::progress;
use super::text::{self, BAD, BOLD, GOOD, WARN, grouped, wrapped};
use crate::blue::session::Blue;
use crate::database_info::DatabaseInfo;
use crate::error::Result;
use crate::finding::{Finding, Severity};
use crate::green::baseline::Baseline;
use crate::green::kong::Session;
use crate::green::session::Green;
use crate::inspect::{DatabaseSizes, Inspection, writer_word};
use crate::mapping::schema_meta::SchemaMeta;

#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,

    /// Accept that other sessions use green's database
    ///
    /// Without it they are a finding.
    #[arg(long)]
    green_online: bool,

    /// Write a baseline of green to FILE
    ///
    /// Key and digest of each row, for --baseline of plan and migrate. Take it right after Kong's bootstrap, before any Admin API client writes to
    /// green.
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// What `--format json` prints (docs/inspect.md).
#[derive(Debug, Serialize)]
struct InspectOutput {
    format: u32,
    kong: String,
    edition: &'static str,
    blue: DatabaseInfo,
    green: DatabaseInfo,
    consistency: String,
    nodes: Vec<NodeOutput>,
    workspaces: Vec<WorkspaceOutput>,
    migrations: MigrationsOutput,
    tables: Vec<TableOutput>,
    sessions: Vec<Session>,
    green_bytes: i64,
    green_free_bytes: Option<u64>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct NodeOutput {
    address: String,
    datacenter: Option<String>,
    up: bool,
}

#[derive(Debug, Serialize)]
struct WorkspaceOutput {
    id: String,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct MigrationsOutput {
    blue: String,
    green: String,
    blue_pending: Vec<String>,
    green_pending: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TableOutput {
    table: String,
    writer: &'static str,
    on_blue: Option<u64>,
    on_green: Option<u64>,
    moved: bool,
    reason: Option<String>,
}

/// Runs the command.
pub async fn run(args: &InspectArgs) -> Result<u8> {
    let choices = args.tables.choices(args.green_online)?;
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    let waiting = progress::waiting(&args.common, "checking both databases, counting rows");
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let inspection = Inspection::read(&blue, &green, &choices).await?;
    let survey = DatabaseSizes::read(&blue, &green, &inspection).await?;
    let baseline = match &args.save_baseline {
        Some(path) => {
            let baseline = Baseline::take(&green, &inspection.green.catalog).await?;
            baseline.save(path)?;
            Some(format!("{} rows of green in {}", baseline.rows(), path.display()))
        }
        None => None,
    };
    drop(waiting);
    let output = to_output(&blue, &green, inspection, survey);
    match args.common.format {
        Format::Json => text::print_json(&output),
        Format::Text => print(&output, &blue, args.common.is_verbose()),
    }
    if let (Some(kept), Format::Text) = (&baseline, args.common.format) {
        anstream::println!("\n{BOLD}Baseline{BOLD:#}  {kept}. Pass it to plan and migrate with --baseline.");
    }
    let stops = output.findings.iter().any(|finding| finding.severity == Severity::Blocker);
    Ok(if stops { 4 } else { 0 })
}

fn to_output(blue: &Blue, green: &Green, inspection: Inspection, survey: DatabaseSizes) -> InspectOutput {
    InspectOutput {
        format: 1,
        kong: inspection.blue.map.line.clone().unwrap_or_default(),
        edition: inspection.blue.meta.edition(),
        blue: blue.into(),
        green: green.into(),
        consistency: blue.config().consistency.name().to_owned(),
        nodes: nodes(blue),
        workspaces: inspection
            .blue
            .workspaces
            .iter()
            .map(|(id, name)| WorkspaceOutput { id: id.to_string(), name: name.clone() })
            .collect(),
        migrations: MigrationsOutput {
            blue: inspection.blue.meta.core().to_owned(),
            green: inspection.green.meta.core().to_owned(),
            blue_pending: pending(&inspection.blue.meta),
            green_pending: pending(&inspection.green.meta),
        },
        tables: tables(&inspection, &survey),
        sessions: inspection.green.sessions,
        green_bytes: survey.green_bytes,
        green_free_bytes: survey.green_free_bytes,
        findings: inspection.findings,
    }
}

fn nodes(blue: &Blue) -> Vec<NodeOutput> {
    let to_node = |node: crate::blue::node::Node| NodeOutput {
        address: node.address,
        datacenter: node.datacenter,
        up: node.up,
    };
    blue.nodes().into_iter().map(to_node).collect()
}

fn pending(meta: &SchemaMeta) -> Vec<String> {
    meta.pending().iter().map(|(subsystem, name)| format!("{subsystem} {name}")).collect()
}

fn tables(inspection: &Inspection, survey: &DatabaseSizes) -> Vec<TableOutput> {
    let moved = inspection.plan.moved.iter().map(|plan| (plan.table.clone(), plan.writer, None));
    let left = inspection
        .plan
        .not_moved
        .iter()
        .map(|left| (left.table.clone(), left.writer, Some(left.reason.clone())));
    moved
        .chain(left)
        .map(|(table, writer, reason)| TableOutput {
            writer: writer_word(writer),
            on_blue: survey.on_blue.get(&table).or_else(|| inspection.rows_not_migrated.get(&table)).copied(),
            on_green: survey.on_green.get(&table).copied(),
            moved: reason.is_none(),
            reason,
            table,
        })
        .collect()
}

fn print(output: &InspectOutput, blue: &Blue, verbose: bool) {
    anstream::println!("{BOLD}Kong {} ({}){BOLD:#}", output.kong, output.edition);
    anstream::println!("  blue   {}", text::side(&output.blue, "keyspace"));
    anstream::println!("  green  {}\n", text::side(&output.green, "database"));
    let up = output.nodes.iter().filter(|node| node.up).count();
    let style = if up == output.nodes.len() { GOOD } else { BAD };
    anstream::println!("  nodes        {style}{up} of {} up{style:#}", output.nodes.len());
    for node in output.nodes.iter().filter(|node| !node.up) {
        anstream::println!("               {BAD}{} is down{BAD:#}", node.address);
    }
    let line = |name: &str, text: &str| anstream::println!("  {name:<11}  {}", wrapped(text, 15, 15));
    line("consistency", &format!("{}: {}", output.consistency, blue.config().consistency.risk()));
    let migrations = &output.migrations;
    if migrations.blue == migrations.green {
        line("migrations", &format!("{} on both sides", migrations.blue));
    } else {
        line("migrations", &format!("blue {} · green {}", migrations.blue, migrations.green));
    }
    let name = |workspace: &WorkspaceOutput| {
        workspace.name.clone().unwrap_or_else(|| format!("(no name: {})", workspace.id))
    };
    line("workspaces", &output.workspaces.iter().map(name).collect::<Vec<String>>().join(", "));
    let free = output
        .green_free_bytes
        .map_or("free space unknown".to_owned(), |bytes| format!("{} free", size(bytes)));
    line("green", &format!("{} used, {free}", size(u64::try_from(output.green_bytes).unwrap_or(0))));
    anstream::println!("\n{}", table_of(output, verbose).trim_fmt());
    print_excluded(output, verbose);
    text::print_findings(&output.findings);
    if output.findings.iter().all(|finding| finding.severity != Severity::Blocker) {
        anstream::println!("\n{GOOD}Ready.{GOOD:#} Next: kongferry plan, with the same addresses.");
    } else {
        anstream::println!("\n{WARN}Not ready:{WARN:#} do what is marked \"first\" before migrate.");
    }
}

fn table_of(output: &InspectOutput, verbose: bool) -> comfy_table::Table {
    let mut rendered = text::table(&["table", "on blue", "on green", "written by"]);
    let number = |rows: Option<u64>| rows.map_or_else(|| "–".to_owned(), grouped);
    let mut row = |name: String, on_blue, on_green, writer: &str| {
        rendered.add_row(vec![name, number(on_blue), number(on_green), writer.to_owned()]);
    };
    let rows = |table: &TableOutput| table.on_blue.unwrap_or(0).max(table.on_green.unwrap_or(0));
    let moved: Vec<&TableOutput> = output.tables.iter().filter(|table| table.moved).collect();
    let (listed, small) =
        if verbose { (moved, Vec::new()) } else { text::without_small(moved, |table| Some(rows(table))) };
    for table in listed {
        row(table.table.clone(), table.on_blue, table.on_green, table.writer);
    }
    if !small.is_empty() {
        let sum =
            |of: fn(&TableOutput) -> Option<u64>| Some(small.iter().filter_map(|table| of(table)).sum());
        let name = format!("{} more that move", small.len());
        row(name, sum(|table| table.on_blue), sum(|table| table.on_green), "");
    }
    rendered
}

/// Tables that do not move: by name in one line, or each with its reason.
fn print_excluded(output: &InspectOutput, verbose: bool) {
    let excluded = output.tables.iter().filter(|table| !table.moved && table.on_blue.unwrap_or(0) > 0);
    let excluded: Vec<(&str, u64, &str)> = excluded
        .map(|table| {
            (table.table.as_str(), table.on_blue.unwrap_or(0), table.reason.as_deref().unwrap_or_default())
        })
        .collect();
    text::print_excluded("Does not move", &excluded, verbose);
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
