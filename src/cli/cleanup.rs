//! `cleanup`: takes our own schema off green when all is done.

use clap::Args;
use serde::Serialize;

use super::args::{CommonArgs, Format, GreenArgs};
use super::confirm;
use super::connect::application_name;
use super::text::{self, GOOD, WARN, counted, grouped, wrapped};
use crate::error::{Error, Kind, Result};
use crate::green::history::{self, Belonging};
use crate::green::session::Green;

/// Arguments of `cleanup`.
#[derive(Debug, Clone, Args)]
pub struct CleanupArgs {
    #[command(flatten)]
    green: GreenArgs,

    /// Drop the schema without asking for confirmation
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
    confirm::require_terminal(args.yes)?;
    let green = Green::connect(&config, &application_name()).await?;
    let found = history::belongings(&green).await?;
    let schema = green.work_schema().to_owned();
    if !args.yes && !found.is_empty() {
        describe(&schema, &found);
        if !confirm::ask(&format!("Remove it from green ({})?", green.config().address())).await? {
            return Err(Error::new(
                Kind::Interrupted,
                "nothing was removed: the question was not answered with yes",
            ));
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
