//! `cleanup`: drops kongferry's own schema on green.

use clap::Args;
use serde::Serialize;

use super::args::{CommonArgs, Format, GreenArgs};
use super::confirm;
use super::connect::application_name;
use super::text::{self, GOOD, WARN, counted, grouped, wrapped};
use crate::error::{Error, Kind, Result};
use crate::green::history::{self, OwnRelation};
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
struct CleanupOutput {
    format: u32,
    schema: String,
    removed: Vec<OwnRelation>,
}

/// Runs the command.
pub async fn run(args: &CleanupArgs) -> Result<u8> {
    let config = args.green.resolve(&args.common)?;
    confirm::require_terminal(args.yes)?;
    let green = Green::connect(&config, &application_name()).await?;
    let found = history::own_relations(&green).await?;
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
        Format::Json => text::print_json(&CleanupOutput { format: 1, schema, removed: found }),
        Format::Text if found.is_empty() => {
            anstream::println!("Nothing to remove: green has no schema \"{schema}\".");
        }
        Format::Text => anstream::println!(
            "{GOOD}Removed.{GOOD:#} The schema \"{schema}\" and {} in it are dropped; Kong's own tables are unchanged.",
            counted(found.len() as u64, "table")
        ),
    }
    Ok(0)
}

fn describe(schema: &str, found: &[OwnRelation]) {
    let bytes: i64 = found.iter().map(|relation| relation.bytes).sum();
    let rows = |test: fn(&str) -> bool| -> u64 {
        found
            .iter()
            .filter(|relation| test(&relation.name))
            .map(|relation| relation.about_rows.max(0).cast_unsigned())
            .sum()
    };
    let megabytes = grouped(bytes.max(0).cast_unsigned().div_ceil(1 << 20));
    anstream::eprintln!("The schema \"{schema}\" holds, in about {megabytes} MB:");
    let item = |text: &str| anstream::eprintln!("  {}", wrapped(text, 2, 4));
    item("the journal of runs: time, host, row counts, and the keys of rejected rows");
    item(&format!(
        "the ledger: key and digest of about {} that runs wrote; without it a later run cannot detect changes",
        counted(rows(|name| name.starts_with("ledger_")), "row")
    ));
    if found.iter().any(|relation| relation.name.starts_with("stage_")) {
        let staged = "staged rows of Kong's tables, credentials included, that a run did not remove";
        anstream::eprintln!("  {WARN}{}{WARN:#}", wrapped(staged, 2, 4));
    }
    anstream::eprintln!("pg_dump of this database includes the schema until it is dropped.");
}
