//! `status`: the runs in green's journal.

use clap::Args;
use serde::Serialize;

use super::args::{CommonArgs, Format, GreenArgs};
use super::connect::application_name;
use super::text::{self, BAD, GOOD, WARN, spent, wrapped};
use crate::database_info::DatabaseInfo;
use crate::error::Result;
use crate::green::history::{self, RecordedRun};
use crate::green::session::Green;

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    green: GreenArgs,

    /// Maximum number of runs to list
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// What `--format json` prints (docs/incremental.md).
#[derive(Debug, Serialize)]
struct StatusOutput {
    format: u32,
    green: DatabaseInfo,
    /// The last applied run on this very database.
    applied: Option<String>,
    runs: Vec<RecordedRun>,
}

/// Runs the command.
pub async fn run(args: &StatusArgs) -> Result<u8> {
    let config = args.green.resolve(&args.common)?;
    let green = Green::connect(&config, &application_name()).await?;
    let runs = history::runs(&green, i64::from(args.limit)).await?;
    let last = runs.iter().find(|run| run.state == "applied" && run.is_current);
    let output =
        StatusOutput { format: 1, green: (&green).into(), applied: last.map(|run| run.run.clone()), runs };
    match args.common.format {
        Format::Json => text::print_json(&output),
        Format::Text => print(&output),
    }
    Ok(0)
}

fn print(output: &StatusOutput) {
    anstream::println!("  green  {}", text::side(&output.green, "database"));
    if let Some(run) = output.runs.first() {
        anstream::println!("  blue   {}, keyspace {}", run.blue_cluster, run.blue_keyspace);
    }
    anstream::println!();
    if output.runs.is_empty() {
        anstream::println!("The journal of this database has no run.");
        return;
    }
    anstream::println!("{}\n", table(&output.runs));
    let latest = output.runs.first();
    match (&output.applied, latest) {
        (Some(run), Some(latest)) if latest.run == *run => {
            anstream::println!("{GOOD}The last run is applied.{GOOD:#}");
        }
        (Some(run), _) => anstream::println!("{WARN}Applied last: run {run}.{WARN:#}"),
        (None, _) => {
            anstream::println!("{BAD}No run is applied to this database in its present state.{BAD:#}");
        }
    }
    if output.runs.iter().any(|run| !run.is_current) {
        anstream::println!(
            "{}",
            wrapped(
                "* History: the tables of this run were dropped or restored since, or it ran on another database.",
                0,
                2
            )
        );
    }
}

/// A column's name and its value for a run.
type RunColumn = (&'static str, fn(&RecordedRun) -> String);

/// The runs, the latest first, without columns that are the same for all or do not fit on the screen.
fn table(runs: &[RecordedRun]) -> String {
    let blue = |run: &RecordedRun| format!("{}/{}", run.blue_cluster, run.blue_keyspace);
    let one_blue = runs.iter().all(|run| blue(run) == runs.first().map(blue).unwrap_or_default());
    let columns: [RunColumn; 8] = [
        ("started (UTC)", |run| run.started.get(..16).unwrap_or(&run.started).to_owned()),
        ("state", |run| format!("{}{}", run.state, if run.is_current { "" } else { "*" })),
        ("run", |run| run.run.get(..8).unwrap_or(&run.run).to_owned()),
        ("inserted", |run| written(run, "inserted")),
        ("updated", |run| written(run, "updated")),
        ("deleted", |run| written(run, "deleted")),
        ("rejected", |run| text::grouped(run.rejects.max(0).cast_unsigned())),
        ("time", time),
    ];
    let with = |columns_shown: usize, with_blue: bool| {
        let mut names: Vec<&str> = columns.iter().take(columns_shown).map(|(name, _)| *name).collect();
        names.extend(with_blue.then_some("blue"));
        let mut table = text::table(&names);
        for run in runs {
            let mut cells: Vec<String> =
                columns.iter().take(columns_shown).map(|(_, cell)| cell(run)).collect();
            cells.extend(with_blue.then(|| blue(run)));
            table.add_row(cells);
        }
        table.trim_fmt()
    };
    let wide = with(columns.len(), !one_blue);
    if text::fits(&wide) { wide } else { with(columns.len() - 1, false) }
}

/// Duration of a run, without the wait for confirmation.
fn time(run: &RecordedRun) -> String {
    let total = run.phases.as_ref().and_then(|phases| phases.get("total")?.as_f64());
    if run.state == "cut off" { "·".to_owned() } else { spent(total.unwrap_or(run.seconds)) }
}

/// Rows that a run wrote, by kind of change. A first run inserts what it applies.
fn written(run: &RecordedRun, kind: &str) -> String {
    let Some(tables) = run.tables.as_ref().and_then(serde_json::Value::as_array) else {
        return "·".to_owned();
    };
    let sum =
        |pointer: &str| -> u64 { tables.iter().filter_map(|table| table.pointer(pointer)?.as_u64()).sum() };
    let changes = sum("/changes/inserted")
        + sum("/changes/updated")
        + sum("/changes/deleted")
        + sum("/changes/unchanged");
    let number = if changes == 0 && kind == "inserted" {
        sum("/applied") + sum("/repaired")
    } else {
        sum(&format!("/changes/{kind}"))
    };
    text::grouped(number)
}
