//! Arguments and what is printed; no logic.

mod cleanup;
pub mod connect;
mod credentials;
mod cutover;
mod drift;
mod inspect;
mod migrate;
mod plan;
mod progress;
mod status;
mod summary;
mod text;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::error::{Error, Kind, Result};
use crate::migrate::interrupted::Interrupted;
use connect::{CommonArgs, Format, Stop};

/// Moves Kong Gateway's database from Cassandra to PostgreSQL
///
/// With every id and every credential, and a proof that nothing was lost. Blue is Kong on Cassandra, only read; green
/// is Kong on PostgreSQL, bootstrapped by the same version of Kong.
#[derive(Debug, Parser)]
#[command(name = "kongferry", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The exit codes are a contract with scripts.
const EXIT_CODES: &str = "Exit codes: 0 done and clean · 1 error · 2 usage · 3 done, with rejects or findings ·\n\
4 refused, green unchanged · 130 interrupted, green unchanged or complete";

/// The phases of a migration, in order.
#[derive(Debug, Subcommand)]
enum Command {
    /// Look at both sides: versions, tables, rights, and what must be done first
    Inspect(inspect::InspectArgs),
    /// Rehearse the whole migration in a scratch PostgreSQL; green is not written
    Plan(plan::PlanArgs),
    /// Move the keyspace: stage, check, apply in one transaction
    Migrate(migrate::MigrateArgs),
    /// Prove it: compare both sides, row by row, as Kong would read them
    Verify(verify::VerifyArgs),
    /// Prove that a known password, key or token still opens the door, offline
    Credentials(credentials::CredentialsArgs),
    /// List the runs so far, from the journal on green
    Status(status::StatusArgs),
    /// Remove our own schema from green when all is done
    Cleanup(cleanup::CleanupArgs),
    /// Move the traffic by DNS in steps, watched, stoppable, and back at once
    Cutover(Box<cutover::CutoverArgs>),
}

impl Command {
    /// Whether the command itself sees to Ctrl-C: a cutover asks.
    fn minds_interrupts(&self) -> bool {
        matches!(self, Command::Cutover(args) if args.minds_interrupts())
    }

    fn common(&self) -> &CommonArgs {
        match self {
            Command::Inspect(args) => &args.common,
            Command::Plan(args) => &args.common,
            Command::Migrate(args) => &args.common,
            Command::Verify(args) => &args.common,
            Command::Credentials(args) => args.common(),
            Command::Status(args) => &args.common,
            Command::Cleanup(args) => &args.common,
            Command::Cutover(args) => args.common(),
        }
    }
}

/// Reads the command line; an `Err` is the exit code of a program that has said all it has to say.
pub fn parse() -> std::result::Result<Cli, ExitCode> {
    connect::parse::<Cli>(std::env::args_os().collect()).map_err(|stop| match stop {
        Stop::Clap(error) => {
            // A closed pipe while printing help is nobody's error.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
        Stop::File(error) => {
            text::print_error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    })
}

/// Runs the command until it ends or is interrupted.
pub async fn run(cli: Cli) -> ExitCode {
    let common = cli.command.common().clone();
    common.color.apply();
    start_log(&common);
    let result = tokio::select! {
        // The work first: until it waits for something, as for a typed password, Ctrl-C ends the program at once.
        biased;
        result = Box::pin(dispatch(&cli.command)) => result,
        signal = interrupted(), if !cli.command.minds_interrupts() => {
            let left = Box::pin(tidy_up(&cli.command)).await;
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
    }
}

/// What is left to do when the work was cut off, and what to say about green.
async fn tidy_up(command: &Command) -> Interrupted {
    match command {
        Command::Inspect(_)
        | Command::Plan(_)
        | Command::Credentials(_)
        | Command::Status(_)
        | Command::Cleanup(_)
        | Command::Cutover(_) => Interrupted::AsItWas,
        Command::Verify(args) => verify::tidy_up(args).await,
        Command::Migrate(args) => migrate::tidy_up(args).await,
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
