//! `status`: the runs so far.

use clap::Args;
use serde::Serialize;

use super::connect::{CommonArgs, Format, GreenArgs};
use super::migrate::application_name;
use super::text::{self, BAD, GOOD, WARN, spent};
use crate::error::Result;
use crate::green::history::{self, Run};
use crate::green::session::Green;
use crate::migrate::report::Side;
use crate::migrate::summary::side_of_green;

/// Arguments of `status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    green: GreenArgs,

    /// How many runs are listed at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u32,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// What `--format json` prints (docs/incremental.md).
#[derive(Debug, Serialize)]
struct Answer {
    format: u32,
    green: Side,
    /// The last run that is applied and about this very database.
    applied: Option<String>,
    runs: Vec<Run>,
}

/// Runs the command.
pub async fn run(args: &StatusArgs) -> Result<u8> {
    let config = args.green.resolve(&args.common)?;
    let green = Green::connect(&config, &application_name()).await?;
    let runs = history::runs(&green, i64::from(args.limit)).await?;
    let last = runs.iter().find(|run| run.state == "applied" && run.is_current);
    let answer =
        Answer { format: 1, green: side_of_green(&green), applied: last.map(|run| run.run.clone()), runs };
    match args.common.format {
        Format::Json => text::print_json(&answer),
        Format::Text => print(&answer),
    }
    Ok(0)
}

fn print(answer: &Answer) {
    anstream::println!("  green  {}\n", text::side(&answer.green, "database"));
    if answer.runs.is_empty() {
        anstream::println!("No run has been made on this database.");
        return;
    }
    let mut table = text::table(&[
        "started (UTC)",
        "state",
        "time",
        "blue",
        "inserted",
        "updated",
        "deleted",
        "rejected",
        "run",
    ]);
    for run in &answer.runs {
        let state = if run.is_current { run.state.clone() } else { format!("{}, history", run.state) };
        table.add_row([
            run.started.clone(),
            state,
            spent(run.seconds),
            format!("{}/{}", run.blue_cluster, run.blue_keyspace),
            written(run, "inserted"),
            written(run, "updated"),
            written(run, "deleted"),
            run.rejects.to_string(),
            run.run.clone(),
        ]);
    }
    anstream::println!("{}\n", table.trim_fmt());
    let latest = answer.runs.first();
    match (&answer.applied, latest) {
        (Some(run), Some(latest)) if latest.run == *run => {
            anstream::println!("{GOOD}The last run is applied.{GOOD:#}");
        }
        (Some(run), _) => anstream::println!("{WARN}Applied last: run {run}.{WARN:#}"),
        (None, _) => anstream::println!("{BAD}No run is applied to this database as it stands now.{BAD:#}"),
    }
    if answer.runs.iter().any(|run| !run.is_current) {
        anstream::println!(
            "Runs marked history were made on tables that have been dropped or restored since."
        );
    }
}

/// What a run wrote of one kind. A first run inserts what it applies.
fn written(run: &Run, kind: &str) -> String {
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
