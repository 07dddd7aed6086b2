//! `migrate`: its flags, the one question it asks, and its summary.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures::future::{BoxFuture, ready};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::connect::{BlueArgs, CommonArgs, Format, GreenArgs};
use super::{progress, summary, text};
use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::green::baseline::Baseline;
use crate::green::ledger;
use crate::green::session::Green;
use crate::inspect::{Choices, Inspection};
use crate::mapping::schema_map::SchemaMap;
use crate::mapping::table_plan::TableChoices;
use crate::migrate::interrupted::{self, Interrupted};
use crate::migrate::rejects::{Accept, Reviewed};
use crate::migrate::report::Report;
use crate::migrate::{self, Options};
use crate::progress::Phase;

/// Where the help lists what only this command has.
const THE_RUN: &str = "The run";

/// Arguments of `migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    pub(super) tables: TableArgs,

    /// Do not ask before applying
    #[arg(long, help_heading = THE_RUN)]
    yes: bool,

    /// Leave rejected rows behind; with FILE only the reviewed ones
    ///
    /// FILE is a rejects file of an earlier plan or migrate. A line with "decision": "keep" lets one member of a group of
    /// duplicates go.
    #[arg(long, help_heading = THE_RUN, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    accept_rejects: Option<Option<PathBuf>>,

    /// Where rejected rows are written, one JSON object per line
    ///
    /// Default: kongferry-rejects-RUN.jsonl in the working directory, removed when nothing was rejected. The file holds
    /// whole rows, credentials too; its mode is 0600.
    #[arg(long, help_heading = THE_RUN, value_name = "FILE")]
    rejects_file: Option<PathBuf>,

    /// Apply although other sessions use green's database
    #[arg(long, help_heading = THE_RUN)]
    green_online: bool,

    /// Undo what somebody changed on green by hand since the last run
    ///
    /// Rows that blue does not have are deleted, edited ones are written anew, deleted ones come back: the counts are
    /// shown before. Only tables that people write; what the data plane wrote on green stays.
    #[arg(long, help_heading = THE_RUN)]
    replace: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// The run's id, known before it begins so that an interrupted one can be tidied up after.
    #[arg(skip = Uuid::new_v4())]
    run: Uuid,
}

/// Which tables move, and by which rules.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Tables")]
pub struct TableArgs {
    /// Leave this table behind (repeatable)
    #[arg(long, value_name = "TABLE")]
    pub skip_table: Vec<String>,

    /// Move a table that moves only on request, such as sessions
    #[arg(long, value_name = "TABLE")]
    pub include_table: Vec<String>,

    /// A schema map of your own; later ones override (repeatable)
    #[arg(long, value_name = "FILE")]
    pub schema_map: Vec<PathBuf>,

    /// What inspect --save-baseline kept of green's bootstrap
    ///
    /// Rows on green that stand in it, unchanged, were made by the bootstrap and give way to blue's.
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
}

impl TableArgs {
    /// What they come to; reads the maps.
    pub fn choices(&self, green_online: bool) -> Result<Choices> {
        Ok(Choices {
            tables: TableChoices {
                include: self.include_table.iter().cloned().collect(),
                skip: self.skip_table.iter().cloned().collect(),
            },
            maps: self.schema_map.iter().map(|path| SchemaMap::from_file(path)).collect::<Result<_>>()?,
            green_online,
            only_reading: false,
            baseline: self.baseline.as_deref().map(Baseline::from_file).transpose()?,
        })
    }
}

/// What our connections to green call themselves: one name per process.
pub fn application_name() -> String {
    format!("kongferry {}", std::process::id())
}

/// Runs the command.
pub async fn run(args: &MigrateArgs) -> Result<u8> {
    let mut options = options(args)?;
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    if !args.yes && !std::io::stdin().is_terminal() {
        return Err(
            Error::usage("migrate asks before it applies, and here is nobody to ask").remedy("Add --yes.")
        );
    }
    let observer = progress::observer(&args.common, "looking at both sides", Phase::word);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    // What an earlier run moved on request stays up to date without being asked for again.
    options.choices.tables.include.extend(ledger::tables(&green).await?);
    let inspection = Inspection::take(&blue, &green, &options.choices).await?;
    let confirm = |report: &Report| {
        if args.yes { Box::pin(ready(Ok(true))) } else { ask(report, args.common.verbose > 0) }
    };
    let report = Box::pin(migrate::run(blue, &green, inspection, &options, observer, &confirm)).await?;
    match args.common.format {
        Format::Json => text::print_json(&report),
        Format::Text => summary::print(&report, args.common.verbose > 0),
    }
    Ok(report.exit_code())
}

fn options(args: &MigrateArgs) -> Result<Options> {
    if let (Some(Some(reviewed)), Some(file)) = (&args.accept_rejects, &args.rejects_file) {
        not_over_the_reviewed_one(reviewed, file)?;
    }
    Ok(Options {
        run: args.run,
        choices: args.tables.choices(args.green_online)?,
        accept: match &args.accept_rejects {
            None => Accept::None,
            Some(None) => Accept::All,
            Some(Some(path)) => Accept::Reviewed(Reviewed::read(path)?),
        },
        rejects_file: args.rejects_file.clone(),
        rehearsal: false,
        replace: args.replace,
    })
}

/// What a person decided in a reviewed file must not be lost.
fn not_over_the_reviewed_one(reviewed: &Path, file: &Path) -> Result<()> {
    let same = reviewed.canonicalize().is_ok_and(|one| file.canonicalize().is_ok_and(|other| one == other));
    if !same {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the rejects file {} is the reviewed one, and would be written over",
        file.display()
    ))
    .remedy("Give another file with --rejects-file."))
}

/// Asks once, with the counts. The answer is read on a thread that nobody waits for: reading cannot be taken back, and
/// Ctrl-C must not wait for Enter.
fn ask(report: &Report, all: bool) -> BoxFuture<'static, Result<bool>> {
    summary::print_counts(report, all);
    anstream::eprint!(
        "\nApply this to green ({}, database {})? [y/N] ",
        report.green.server,
        report.green.name
    );
    answered_yes()
}

/// Reads the answer to a question that was just asked.
pub fn answered_yes() -> BoxFuture<'static, Result<bool>> {
    let (sender, answer) = oneshot::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = std::io::stderr().flush().and_then(|()| std::io::stdin().lock().read_line(&mut line));
        // Nobody waits any more after an interruption.
        let _ = sender.send(read.map(|_| line));
    });
    Box::pin(async move {
        let read = answer.await.unwrap_or_else(|e| Err(std::io::Error::other(e)));
        let line = read.map_err(|e| Error::new(Kind::Io, "cannot ask on this terminal").source(e))?;
        Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    })
}

/// After an interruption: removes the stage where that is possible, and says how green stands.
pub async fn tidy_up(args: &MigrateArgs) -> Interrupted {
    tidied(&args.green, &args.common, args.run).await
}

/// The same for whatever writes under a run's id.
pub async fn tidied(green: &GreenArgs, common: &CommonArgs, run: Uuid) -> Interrupted {
    let Ok(config) = green.resolve(common) else { return Interrupted::Unknown };
    let tidied = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        let green = Green::connect(&config, &application_name()).await?;
        interrupted::tidy_up(&green, run).await
    });
    match tidied.await {
        Ok(Ok(left)) => left,
        Ok(Err(error)) => {
            tracing::debug!(%error, "Green could not be tidied up.");
            Interrupted::Unknown
        }
        Err(_) => Interrupted::Unknown,
    }
}
