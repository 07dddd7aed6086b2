//! Arguments and what is printed; no logic.

pub(crate) mod args;
mod cleanup;
mod completions;
mod confirm;
mod connect;
mod credentials;
mod cutover;
mod drift;
mod inspect;
mod man;
mod migrate;
mod plan;
mod progress;
mod status;
mod summary;
mod text;
mod verify;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Kind, Result};
use crate::migrate::interrupted::Interrupted;
use crate::settings::file::File;
use args::{CommonArgs, Format};

/// Moves Kong Gateway's database from Cassandra to PostgreSQL
///
/// Rehearses the migration, applies it in a single PostgreSQL transaction, and accounts for every row. Blue is Kong on
/// Cassandra, which is only read; green is Kong on PostgreSQL, bootstrapped by the same version of Kong.
#[derive(Debug, Parser)]
#[command(name = "kongferry", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The exit codes are a contract with scripts.
const EXIT_CODES: &str = "\
Exit codes:
  0    done and clean
  1    error
  2    usage
  3    done, with rejects or findings
  4    refused, green unchanged
  130  interrupted, green unchanged or complete";

/// The phases of a migration, in order.
#[derive(Debug, Subcommand)]
enum Command {
    /// Check both databases: versions, tables, privileges, prerequisites
    Inspect(inspect::InspectArgs),
    /// Rehearse the migration in a scratch PostgreSQL
    Plan(plan::PlanArgs),
    /// Copy the keyspace to green and apply it in one transaction
    Migrate(migrate::MigrateArgs),
    /// Compare every row on both sides as Kong would read it
    Verify(verify::VerifyArgs),
    /// Check offline that a password, key or token is still valid
    Credentials(credentials::CredentialsArgs),
    /// List the runs recorded in the journal on green
    Status(status::StatusArgs),
    /// Drop kongferry's own schema on green after the migration
    Cleanup(cleanup::CleanupArgs),
    /// Shift traffic by DNS in monitored steps, with instant rollback
    Cutover(Box<cutover::CutoverArgs>),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
    /// Write a manual page for each command
    #[command(hide = true)]
    Man(man::ManArgs),
}

impl Command {
    /// Whether the command itself sees to Ctrl-C: a cutover asks.
    fn handles_interrupts(&self) -> bool {
        matches!(self, Command::Cutover(args) if args.handles_interrupts())
    }

    /// Defaults for the commands that connect to nothing.
    fn common(&self) -> CommonArgs {
        match self {
            Command::Inspect(args) => args.common.clone(),
            Command::Plan(args) => args.common.clone(),
            Command::Migrate(args) => args.common.clone(),
            Command::Verify(args) => args.common.clone(),
            Command::Credentials(args) => args.common().clone(),
            Command::Status(args) => args.common.clone(),
            Command::Cleanup(args) => args.common.clone(),
            Command::Cutover(args) => args.common().clone(),
            Command::Completions(_) | Command::Man(_) => CommonArgs::default(),
        }
    }
}

/// Why there is no command to run.
enum ParseFailure {
    /// An error of the command line, or the help that was asked for.
    Clap(clap::Error),
    /// The configuration file cannot be used.
    File(Error),
}

impl From<clap::Error> for ParseFailure {
    fn from(error: clap::Error) -> Self {
        ParseFailure::Clap(error)
    }
}

impl From<Error> for ParseFailure {
    fn from(error: Error) -> Self {
        ParseFailure::File(error)
    }
}

/// Reads the command line; an `Err` is the exit code of a program that has printed all it has to print.
pub fn parse() -> std::result::Result<Cli, ExitCode> {
    parse_from(&std::env::args_os().collect::<Vec<_>>()).map_err(|failure| match failure {
        ParseFailure::Clap(error) => {
            // A pipe that was closed while the help was printed is not an error.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        ParseFailure::File(error) => {
            text::print_error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    })
}

/// Parses the command line, with the environment below it and the configuration file below that.
fn parse_from(arguments: &[OsString]) -> std::result::Result<Cli, ParseFailure> {
    let variable = |name: &str| std::env::var(name).ok();
    let file = File::find(arguments, &variable, Path::new(""))?;
    let command = file.apply(Cli::command(), arguments, &variable)?;
    let matches = command.try_get_matches_from(arguments).map_err(|error| {
        file.explain_invalid_value(&error, arguments).map_or(ParseFailure::Clap(error), ParseFailure::File)
    })?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()).into())
}

/// Runs the command until it ends or is interrupted.
pub async fn run(cli: Cli) -> ExitCode {
    let common = cli.command.common();
    common.color.apply();
    start_log(&common);
    let result = tokio::select! {
        // The work first: until it waits for something, as for a typed password, Ctrl-C ends the program at once.
        biased;
        result = Box::pin(dispatch(&cli.command)) => result,
        signal = interrupted(), if !cli.command.handles_interrupts() => {
            let left = Box::pin(clean_up(&cli.command)).await;
            Err(Error::new(Kind::Interrupted, format!("interrupted by {signal}; {left}")).remedy(left.remedy()))
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            if common.format == Format::Json {
                text::print_error_json(&error);
            }
            text::print_error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

async fn dispatch(command: &Command) -> Result<u8> {
    match command {
        Command::Inspect(args) => inspect::run(args).await,
        Command::Plan(args) => plan::run(args).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Verify(args) => verify::run(args).await,
        Command::Credentials(args) => credentials::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Cleanup(args) => cleanup::run(args).await,
        Command::Cutover(args) => Box::pin(cutover::run(args)).await,
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// What is left to do when the work was cut off, and what to say about green.
async fn clean_up(command: &Command) -> Interrupted {
    match command {
        Command::Inspect(_)
        | Command::Plan(_)
        | Command::Credentials(_)
        | Command::Status(_)
        | Command::Cleanup(_)
        | Command::Cutover(_)
        | Command::Completions(_)
        | Command::Man(_) => Interrupted::Unchanged,
        Command::Verify(args) => verify::clean_up(args).await,
        Command::Migrate(args) => migrate::clean_up(args).await,
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn interrupted() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => "Ctrl-C",
        _ = term.recv() => "SIGTERM",
    }
}

fn start_log(common: &CommonArgs) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "kongferry=error",
        (false, 0) => "kongferry=warn",
        (false, 1) => "kongferry=info",
        (false, _) => "kongferry=debug,scylla=info,sqlx=warn",
    };
    let filter = EnvFilter::try_from_env("KONGFERRY_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::log_writer)
        .with_target(false);
    match common.log_format {
        Format::Json => log.json().init(),
        Format::Text => log.with_ansi(false).without_time().compact().init(),
    }
}
