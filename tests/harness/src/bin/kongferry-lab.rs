//! `kongferry-lab up`: a blue and a green to try kongferry on, until Ctrl-C. `kongferry-lab login`: what became of one
//! consumer on green.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use kongferry::error::{Error, Kind, Result};
use kongferry_harness::cassandra::{Cassandra, Endpoint, Options};
use kongferry_harness::catalog::{Catalog, KeyspaceOptions, LINES};
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::postgres::PgServer;
use kongferry_harness::{fill, green, postgres};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

const USAGE: &str = "usage: kongferry-lab up [--line 3.3] [--fixture DIR] [--fill CONSUMERS] [--env-file FILE]
       kongferry-lab login GREEN_URL CONSUMER_NUMBER

Starts a real Cassandra with the rows that Kong left there (blue) and a real PostgreSQL with Kong's empty tables
(green), prints where they are, and waits for Ctrl-C. Nothing of it stays.

  --line LINE       2.8, 3.0, 3.1, 3.2, 3.3 or enterprise-2.8
  --fixture DIR     rows from DIR/blue/TABLE.jsonl instead of those that come with kongferry
  --fill CONSUMERS  so many more consumers, each with basic-auth, key-auth and acl
  --env-file FILE   writes the addresses there as well, once both servers are ready

login shows a consumer that --fill wrote to blue as green holds it, and whether its password still opens the door.";

/// Name of the keyspace and of the database, as in Kong's default configuration.
const NAME: &str = "kong";

struct Arguments {
    line: String,
    fixture: Option<PathBuf>,
    fill: u64,
    env_file: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let done = match given.as_slice() {
        [command, green, number] if command == "login" => login(green, number).await,
        _ => match parse(given.into_iter()) {
            Ok(arguments) => up(arguments).await,
            Err(error) => Err(error),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("error: {error}");
    for line in error.causes().iter().chain(error.details()) {
        eprintln!("  {line}");
    }
    if let Some(remedy) = error.remedy_text() {
        eprintln!("{remedy}");
    }
    ExitCode::from(error.kind().exit_code())
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments> {
    let usage = |message: String| Error::usage(message).remedy(USAGE);
    match given.next().as_deref() {
        Some("up") => {}
        _ => return Err(usage("there is one command: up".to_owned())),
    }
    let mut arguments = Arguments { line: "3.3".to_owned(), fixture: None, fill: 0, env_file: None };
    while let Some(flag) = given.next() {
        let value = given.next().ok_or_else(|| usage(format!("{flag} needs a value, or is not known")))?;
        match flag.as_str() {
            "--line" if LINES.contains(&value.as_str()) => arguments.line = value,
            "--line" => return Err(usage(format!("--line is one of {LINES:?}, not {value}"))),
            "--fixture" => arguments.fixture = Some(PathBuf::from(value)),
            "--fill" => {
                let parsed = value.parse();
                arguments.fill = parsed.map_err(|_| usage(format!("--fill takes a number, not {value}")))?;
            }
            "--env-file" => arguments.env_file = Some(PathBuf::from(value)),
            _ => return Err(usage(format!("{flag} is not known"))),
        }
    }
    Ok(arguments)
}

/// Looks a consumer's basic-auth credential up on green and recomputes the hash from the password that it was made from.
async fn login(green: &str, number: &str) -> Result<()> {
    let number = number.parse().map_err(|_| Error::usage(format!("{number} is not a number")))?;
    let consumer = fill::Consumer::number(number);
    let (server, name) =
        green.rsplit_once('/').ok_or_else(|| Error::usage(format!("{green} names no database")))?;
    let database = PgServer::at(&format!("{server}/postgres"))?.database(name);
    let found = database
        .json(&format!(
            "select to_jsonb(b) || jsonb_build_object('consumer', c.username) from basicauth_credentials b
             join consumers c on c.id = b.consumer_id where b.username = '{}'",
            consumer.username
        ))
        .await?;
    let Some(row) = found.first() else {
        return Err(Error::new(
            Kind::Server,
            format!("green has no basic-auth credential of {}", consumer.username),
        ));
    };
    let computed = fill::basic_auth_hash(&consumer.password, consumer.id);
    println!("consumer        {} ({})", row["consumer"], row["consumer_id"]);
    println!("password        {:?}, as the client types it", consumer.password);
    println!("green holds     {}", row["password"]);
    println!("recomputed      \"{computed}\" = SHA-1(password + consumer id)");
    if row["password"] == computed && row["consumer_id"] == consumer.id.to_string() {
        println!("the login still works");
        return Ok(());
    }
    Err(Error::new(Kind::Server, "the login would fail"))
}

async fn up(arguments: Arguments) -> Result<()> {
    // Before anything is started, so that Ctrl-C during the start does not leave anything either.
    let stopped = until_stopped()?;
    tokio::select! {
        () = stopped => Ok(()),
        result = run(arguments) => result,
    }
}

/// Never ends by itself; the servers end when it is dropped.
async fn run(arguments: Arguments) -> Result<()> {
    eprintln!("starting Cassandra and PostgreSQL");
    let (cassandra, local) = tokio::try_join!(Cassandra::start(Options::default()), postgres::start())?;
    let (endpoint, server) = (cassandra.endpoint(), PgServer::from(&local));
    let blue = prepare_blue(&endpoint, &arguments).await?;
    let green = green::fresh_green(&server, NAME, &arguments.line).await?;
    let addresses = format!(
        "KONGFERRY_BLUE={}\nKONGFERRY_GREEN={}\nKONGFERRY_LAB_CASSANDRA={}\nKONGFERRY_LAB_POSTGRES={}\n",
        blue.url(),
        green.url(),
        endpoint.contact_point,
        server.database("postgres").url(),
    );
    println!("blue  {}\ngreen {}\n\n{addresses}", blue.url(), green.url());
    if let Some(file) = &arguments.env_file {
        publish(file, &addresses)?;
    }
    eprintln!("ready; Ctrl-C stops both and removes their data");
    std::future::pending().await
}

async fn prepare_blue(endpoint: &Endpoint, arguments: &Arguments) -> Result<Keyspace> {
    let line = &arguments.line;
    let fixture = match &arguments.fixture {
        Some(directory) => Fixture::read(directory)?,
        None => Fixture::shipped(line)?,
    };
    eprintln!("loading the rows of Kong {line}");
    Catalog::of(line)?.create(&endpoint.session().await?, NAME, KeyspaceOptions::default()).await?;
    let keyspace = Keyspace::open(endpoint, NAME).await?;
    keyspace.load(&fixture, LoadOptions::default()).await?;
    if arguments.fill > 0 {
        eprintln!("writing {} more consumers", arguments.fill);
        fill::fill(&keyspace, default_workspace(&fixture)?, arguments.fill).await?;
    }
    Ok(keyspace)
}

fn default_workspace(fixture: &Fixture) -> Result<Uuid> {
    let workspaces = fixture.blue.get("workspaces").into_iter().flatten();
    let default = workspaces.map(|row| &row.row).find(|row| row["name"] == "default");
    let id = default.and_then(|row| row["id"].as_str()).and_then(|id| Uuid::parse_str(id).ok());
    id.ok_or_else(|| Error::usage("the fixture has no default workspace for the consumers of --fill"))
}

/// The file is there when it is complete.
fn publish(file: &PathBuf, text: &str) -> Result<()> {
    let unfinished = file.with_extension("unfinished");
    let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, file));
    written.map_err(|e| Error::new(Kind::Io, format!("cannot write {}", file.display())).source(e))
}

/// Ends with the first Ctrl-C or SIGTERM.
fn until_stopped() -> Result<impl Future<Output = ()>> {
    let watch = |kind| signal(kind).map_err(|e| Error::new(Kind::Io, "signals cannot be watched").source(e));
    let (mut interrupt, mut terminate) = (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
