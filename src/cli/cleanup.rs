//! `cleanup`: takes our own schema off green when all is done.

use std::io::IsTerminal;

use clap::Args;
use serde::Serialize;

use super::connect::{CommonArgs, Format, GreenArgs};
use super::migrate::{answered_yes, application_name};
use super::text::{self, GOOD, WARN, counted, grouped, wrapped};
use crate::error::{Error, Kind, Result};
use crate::green::history::{self, Belonging};
use crate::green::session::Green;

/// Arguments of `cleanup`.
#[derive(Debug, Clone, Args)]
pub struct CleanupArgs {
    #[command(flatten)]
    green: GreenArgs,

    /// Do not ask before removing
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// What `--format json` prints (docs/incremental.md).
#[derive(Debug, Serialize)]
struct Answer {
    format: u32,
    schema: String,
    removed: Vec<Belonging>,
}

/// Runs the command.
pub async fn run(args: &CleanupArgs) -> Result<u8> {
    let config = args.green.resolve(&args.common)?;
    if !args.yes && !std::io::stdin().is_terminal() {
        return Err(
            Error::usage("cleanup asks before it removes, and here is nobody to ask").remedy("Add --yes.")
        );
    }
    let green = Green::connect(&config, &application_name()).await?;
    let found = history::belongings(&green).await?;
    let schema = green.work_schema().to_owned();
    if !args.yes && !found.is_empty() {
        describe(&schema, &found);
        anstream::eprint!("\nRemove it from green ({})? [y/N] ", green.config().address());
        if !answered_yes().await? {
            return Err(Error::new(Kind::Interrupted, "not removed: the question was not answered with yes"));
        }
    }
    history::remove(&green, &found).await?;
    match args.common.format {
        Format::Json => text::print_json(&Answer { format: 1, schema, removed: found }),
        Format::Text if found.is_empty() => {
            anstream::println!("There is nothing of ours on green: no schema \"{schema}\".");
        }
        Format::Text => anstream::println!(
            "{GOOD}Removed.{GOOD:#} The schema \"{schema}\" is gone, with {}; Kong's own tables were not touched.",
            counted(found.len() as u64, "table")
        ),
    }
    Ok(0)
}

fn describe(schema: &str, found: &[Belonging]) {
    let bytes: i64 = found.iter().map(|one| one.bytes).sum();
    let rows = |test: fn(&str) -> bool| -> u64 {
        found.iter().filter(|one| test(&one.name)).map(|one| one.about_rows.max(0).cast_unsigned()).sum()
    };
    let megabytes = grouped(bytes.max(0).cast_unsigned().div_ceil(1 << 20));
    anstream::eprintln!("The schema \"{schema}\" holds, in about {megabytes} MB:");
    let item = |text: &str| anstream::eprintln!("  {}", wrapped(text, 2, 4));
    item("the journal of runs: when, from where, how many rows, and the keys of what was rejected");
    item(&format!(
        "the ledger: key and digest of about {} that runs wrote – without it a later run cannot tell what changed",
        counted(rows(|name| name.starts_with("ledger_")), "row")
    ));
    if found.iter().any(|one| one.name.starts_with("stage_")) {
        let staged = "rows of Kong's, credentials too, that a run has staged and not removed";
        anstream::eprintln!("  {WARN}{}{WARN:#}", wrapped(staged, 2, 4));
    }
    anstream::eprintln!("pg_dump of this database carries it along as long as it is there.");
}
