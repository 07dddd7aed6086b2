//! `migrate`: its flags, its question and its summary.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use futures::future::{BoxFuture, ready};
use uuid::Uuid;

use super::args::{BlueArgs, CommonArgs, Format, GreenArgs, TableArgs};
use super::connect::application_name;
use super::{confirm, progress, summary, text};
use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::ledger;
use crate::green::session::Green;
use crate::inspect::Inspection;
use crate::migrate::interrupted::{self, Interrupted};
use crate::migrate::rejects::{AcceptedRejects, ReviewedRejects};
use crate::migrate::report::MigrationReport;
use crate::migrate::{self, MigrateOptions};
use crate::progress::ProgressPhase;

#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    #[command(flatten)]
    blue: BlueArgs,
    #[command(flatten)]
    green: GreenArgs,
    #[command(flatten)]
    pub(super) tables: TableArgs,

    /// Apply without asking for confirmation
    #[arg(long)]
    yes: bool,

    /// Leave rejected rows behind; with FILE only the reviewed ones
    ///
    /// FILE is the rejects file of an earlier plan or migrate. A line with "decision": "keep" applies that member of a
    /// group of duplicates and leaves the others behind.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    accept_rejects: Option<Option<PathBuf>>,

    /// File for rejected rows
    ///
    /// One JSON object per line. Secrets are written as a short digest and a length; mode 0600. Default: kongferry-rejects-RUN.jsonl in the working
    /// directory, which is removed if no row was rejected.
    #[arg(long, value_name = "FILE")]
    rejects_file: Option<PathBuf>,

    /// Write secrets to the rejects file in clear text
    #[arg(long)]
    show_secrets: bool,

    /// Apply although other sessions use green's database
    #[arg(long)]
    green_online: bool,

    /// Undo changes that Admin API clients made on green since the last run
    ///
    /// Rows that blue does not have are deleted, edited rows are overwritten, deleted rows are inserted again. The counts
    /// are shown before. Tables that the data plane writes are not affected.
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,

    /// The run's id, chosen here so that an interrupted run can be cleaned up.
    #[arg(skip = Uuid::new_v4())]
    run: Uuid,
}

/// Runs the command.
pub async fn run(args: &MigrateArgs) -> Result<u8> {
    let mut options = options(args)?;
    let (blue_config, green_config) = (args.blue.resolve(&args.common)?, args.green.resolve(&args.common)?);
    confirm::require_terminal(args.yes)?;
    let observer = progress::observer(&args.common, "checking both databases", ProgressPhase::label);
    let green = Green::connect(&green_config, &application_name()).await?;
    let blue = Arc::new(Blue::connect(&blue_config).await?);
    // A table that an earlier run moved on request is kept up to date without --include-table.
    options.inspect.tables.include.extend(ledger::tables(&green).await?);
    let inspection = Inspection::read(&blue, &green, &options.inspect).await?;
    let confirm = |report: &MigrationReport| {
        if args.yes { Box::pin(ready(Ok(true))) } else { ask(report, args.common.is_verbose()) }
    };
    let report = Box::pin(migrate::run(blue, &green, inspection, &options, observer, &confirm)).await?;
    match args.common.format {
        Format::Json => text::print_json(&report),
        Format::Text => summary::print(&report, args.common.is_verbose()),
    }
    Ok(report.exit_code())
}

fn options(args: &MigrateArgs) -> Result<MigrateOptions> {
    if let (Some(Some(reviewed)), Some(file)) = (&args.accept_rejects, &args.rejects_file) {
        refuse_to_overwrite(reviewed, file)?;
    }
    Ok(MigrateOptions {
        run: args.run,
        inspect: args.tables.choices(args.green_online)?,
        accept: match &args.accept_rejects {
            None => AcceptedRejects::None,
            Some(None) => AcceptedRejects::All,
            Some(Some(path)) => AcceptedRejects::Reviewed(ReviewedRejects::read(path)?),
        },
        rejects_file: args.rejects_file.clone(),
        show_secrets: args.show_secrets,
        rehearsal: false,
        replace: args.replace,
    })
}

/// The decisions in a reviewed file must not be overwritten.
fn refuse_to_overwrite(reviewed: &Path, file: &Path) -> Result<()> {
    let is_same = match (reviewed.canonicalize(), file.canonicalize()) {
        (Ok(reviewed), Ok(file)) => reviewed == file,
        _ => false,
    };
    if !is_same {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the rejects file {} is the reviewed one and would be overwritten",
        file.display()
    ))
    .remedy("Pass another file with --rejects-file."))
}

/// Shows the counts and asks whether to apply them.
fn ask(report: &MigrationReport, verbose: bool) -> BoxFuture<'static, Result<bool>> {
    summary::print_counts(report, verbose);
    confirm::ask(&format!("Apply this to green ({}, database {})?", report.green.server, report.green.name))
}

/// After an interruption: removes the staging tables if possible, and tells the state of green.
pub async fn clean_up(args: &MigrateArgs) -> Interrupted {
    tidy_up_run(&args.green, &args.common, args.run).await
}

/// The same for any command that writes under a run's id.
pub async fn tidy_up_run(green: &GreenArgs, common: &CommonArgs, run: Uuid) -> Interrupted {
    let Ok(config) = green.resolve(common) else { return Interrupted::Unknown };
    let tidied = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        let green = Green::connect(&config, &application_name()).await?;
        interrupted::clean_up(&green, run).await
    });
    match tidied.await {
        Ok(Ok(state)) => state,
        Ok(Err(error)) => {
            tracing::debug!(%error, "Green could not be cleaned up.");
            Interrupted::Unknown
        }
        Err(_) => Interrupted::Unknown,
    }
}
