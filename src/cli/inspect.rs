//! `inspect`: what stands on either side, and what must be done first.

use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::connect::{BlueArgs, CommonArgs, Format, GreenArgs};
use super::migrate::{TableArgs, application_name};
use super::text::{self, BAD, BOLD, GOOD, WARN, grouped};
use crate::blue::session::Blue;
use crate::error::Result;
use crate::green::kong::Session;
use crate::green::session::Green;
use crate::inspect::{Finding, Inspection, Survey, Weight, writer_word};
use crate::mapping::schema_meta::SchemaMeta;
use crate::migrate::report::Side;

/// Arguments of `inspect`.
#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    tables: TableArgs,

    /// Take it as agreed that other sessions use green
    #[arg(long)]
    green_online: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// What `--format json` prints (docs/inspect.md).
#[derive(Debug, Serialize)]
struct Answer {
    format: u32,
    kong: String,
    edition: &'static str,
    blue: Side,
    green: Side,
    consistency: String,
    nodes: Vec<NodeAnswer>,
    workspaces: Vec<WorkspaceAnswer>,
    migrations: MigrationsAnswer,
    tables: Vec<TableAnswer>,
    sessions: Vec<Session>,
    green_bytes: i64,
    green_free_bytes: Option<u64>,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct NodeAnswer {
    address: String,
    datacenter: Option<String>,
    up: bool,
}

#[derive(Debug, Serialize)]
struct WorkspaceAnswer {
    id: String,
    name: Option<String>,
}

#[derive(Debug, Serialize)]
struct MigrationsAnswer {
    blue: String,
    green: String,
    blue_pending: Vec<String>,
    green_pending: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TableAnswer {
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
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    let inspection = Inspection::take(&blue, &green, &choices).await?;
    let survey = Survey::take(&blue, &green, &inspection).await?;
    let answer = answer(&blue, &green, inspection, survey);
    match args.common.format {
        Format::Json => text::print_json(&answer),
        Format::Text => print(&answer, &blue),
    }
    let stops = answer.findings.iter().any(|finding| finding.weight == Weight::Stop);
    Ok(if stops { 4 } else { 0 })
}

fn answer(blue: &Blue, green: &Green, inspection: Inspection, survey: Survey) -> Answer {
    let enterprise = inspection.blue.meta.is_enterprise();
    Answer {
        format: 1,
        kong: inspection.blue.map.line.clone().unwrap_or_default(),
        edition: if enterprise { "enterprise" } else { "open source" },
        blue: crate::migrate::summary::side_of_blue(blue),
        green: crate::migrate::summary::side_of_green(green),
        consistency: blue.config().consistency.name().to_owned(),
        nodes: nodes(blue),
        workspaces: inspection
            .blue
            .workspaces
            .iter()
            .map(|(id, name)| WorkspaceAnswer { id: id.to_string(), name: name.clone() })
            .collect(),
        migrations: MigrationsAnswer {
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

fn nodes(blue: &Blue) -> Vec<NodeAnswer> {
    let one = |node: crate::blue::session::Node| NodeAnswer {
        address: node.address,
        datacenter: node.datacenter,
        up: node.up,
    };
    blue.nodes().into_iter().map(one).collect()
}

fn pending(meta: &SchemaMeta) -> Vec<String> {
    meta.pending().iter().map(|(subsystem, name)| format!("{subsystem} {name}")).collect()
}

fn tables(inspection: &Inspection, survey: &Survey) -> Vec<TableAnswer> {
    let moved = inspection.plan.moved.iter().map(|plan| (plan.table.clone(), plan.writer, None));
    let left =
        inspection.plan.left.iter().map(|left| (left.table.clone(), left.writer, Some(left.reason.clone())));
    moved
        .chain(left)
        .map(|(table, writer, reason)| TableAnswer {
            writer: writer_word(writer),
            on_blue: survey.on_blue.get(&table).or_else(|| inspection.left_rows.get(&table)).copied(),
            on_green: survey.on_green.get(&table).copied(),
            moved: reason.is_none(),
            reason,
            table,
        })
        .collect()
}

fn print(answer: &Answer, blue: &Blue) {
    anstream::println!("{BOLD}Kong {} ({}){BOLD:#}", answer.kong, answer.edition);
    anstream::println!(
        "  blue   {} · {} · keyspace {}",
        answer.blue.server,
        answer.blue.version,
        answer.blue.name
    );
    anstream::println!(
        "  green  {} · {} · database {}",
        answer.green.server,
        answer.green.version,
        answer.green.name
    );
    let up = answer.nodes.iter().filter(|node| node.up).count();
    let style = if up == answer.nodes.len() { GOOD } else { BAD };
    anstream::println!("\n  nodes        {style}{up} of {} up{style:#}", answer.nodes.len());
    for node in answer.nodes.iter().filter(|node| !node.up) {
        anstream::println!("               {BAD}{} is down{BAD:#}", node.address);
    }
    anstream::println!("  consistency  {} – {}", answer.consistency, blue.config().consistency.risk());
    anstream::println!("  migrations   blue {} · green {}", answer.migrations.blue, answer.migrations.green);
    let name = |one: &WorkspaceAnswer| one.name.clone().unwrap_or_else(|| format!("(no name: {})", one.id));
    let names: Vec<String> = answer.workspaces.iter().map(name).collect();
    anstream::println!("  workspaces   {}", names.join(", "));
    let free = answer
        .green_free_bytes
        .map_or("free space not known from here".to_owned(), |bytes| format!("{} free", size(bytes)));
    anstream::println!("  green's size {}, {free}\n", size(u64::try_from(answer.green_bytes).unwrap_or(0)));
    anstream::println!("{}", table_of(answer));
    text::print_findings(&answer.findings);
    if answer.findings.iter().all(|finding| finding.weight != Weight::Stop) {
        anstream::println!("\n{GOOD}Ready.{GOOD:#} Next: kongferry plan, with the same addresses.");
    } else {
        anstream::println!(
            "\n{WARN}Not ready:{WARN:#} what is marked \"first\" must be done before migrate."
        );
    }
}

fn table_of(answer: &Answer) -> comfy_table::Table {
    let mut shown = text::table(&["table", "on blue", "on green", "written by", "moves"]);
    let number = |rows: Option<u64>| rows.map_or_else(|| "–".to_owned(), grouped);
    for table in &answer.tables {
        let moves = if table.moved { "yes" } else { "no" };
        shown.add_row(vec![
            table.table.clone(),
            number(table.on_blue),
            number(table.on_green),
            table.writer.to_owned(),
            moves.to_owned(),
        ]);
    }
    shown
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
