//! `kongferry-lab up`: a blue and a green to try kongferry on, until Ctrl-C. `kongferry-lab look`: show one row of both.
//! `kongferry-lab change`: a day's changes on blue. `kongferry-lab dns`: a PowerDNS to try a cutover on.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use kongferry::error::{Error, Kind, Result};
use kongferry_harness::cassandra::{Cassandra, Endpoint, Options};
use kongferry_harness::catalog::{Catalog, KeyspaceOptions, LINES};
use kongferry_harness::dns::PowerDns;
use kongferry_harness::fixture::Fixture;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::postgres::PgServer;
use kongferry_harness::{enterprise, fill, green, postgres};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

const USAGE: &str = "usage: kongferry-lab up [--line 3.3] [--fixture DIR] [--fill CONSUMERS] [--env-file FILE]
                        [--kong-password PASSWORD]
       kongferry-lab look ENV_FILE TABLE COLUMN=VALUE COLUMN…
       kongferry-lab change ENV_FILE CONSUMERS DAY
       kongferry-lab dns [--config-file FILE]

Starts a real Cassandra with the rows that Kong left there (blue) and a real PostgreSQL with Kong's empty tables
(green), prints where they are, and waits for Ctrl-C. Nothing of it stays.

  --line LINE       2.8, 3.0, 3.1, 3.2 or 3.3; enterprise-2.8 to enterprise-3.3
  --fixture DIR     rows from DIR/blue/TABLE.jsonl instead of those that come with kongferry
  --fill CONSUMERS  so many more consumers, each with basic-auth, key-auth and acl
  --env-file FILE   writes the addresses there as well, once both servers are ready
  --kong-password PASSWORD
                    what Enterprise's bootstrap of green found in KONG_PASSWORD; an empty one makes no first admin

look shows these columns of the first row of green with that value, beside the row of blue with the same id.
ENV_FILE is what --env-file wrote; with * as the value, any that is not null will do.

change does to every fiftieth of the first CONSUMERS that --fill wrote a day's changes: change, add, delete. DAY
is 1, then 2, and so on.

dns starts a real PowerDNS with the zone example.test, in which api.example.test is 127.0.0.1, and prints the sections
of a cutover.toml for it (green is 127.0.0.2); --config-file writes them there as well.";

/// Name of the keyspace and of the database, as in Kong's default configuration.
const NAME: &str = "kong";

struct Arguments {
    line: String,
    fixture: Option<PathBuf>,
    fill: u64,
    env_file: Option<PathBuf>,
    kong_password: String,
}

struct Row {
    env_file: PathBuf,
    table: String,
    column: String,
    value: String,
    shown: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut given = std::env::args().skip(1);
    let result = match given.next().as_deref() {
        Some("up") => match parse(given) {
            Ok(arguments) => Box::pin(up(arguments)).await,
            Err(error) => Err(error),
        },
        Some("look") => match parse_row(given) {
            Ok(row) => look(&row).await,
            Err(error) => Err(error),
        },
        Some("change") => match parse_day(given) {
            Ok(day) => change(&day).await,
            Err(error) => Err(error),
        },
        Some("dns") => match parse_dns(given) {
            Ok(file) => until_ended(dns(file)).await,
            Err(error) => Err(error),
        },
        _ => Err(usage("the commands are up, look, change and dns".to_owned())),
    };
    result.map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn usage(message: String) -> Error {
    Error::usage(message).remedy(USAGE)
}

fn parse_row(mut given: impl Iterator<Item = String>) -> Result<Row> {
    let mut next = |what: &str| given.next().ok_or_else(|| usage(format!("look needs {what}")));
    let (env_file, table) = (PathBuf::from(next("a file")?), next("a table")?);
    let condition = next("COLUMN=VALUE")?;
    let (column, value) =
        condition.split_once('=').ok_or_else(|| usage(format!("{condition} is not COLUMN=VALUE")))?;
    Ok(Row { env_file, table, column: column.to_owned(), value: value.to_owned(), shown: given.collect() })
}

/// Prints one row of both sides, a line per column.
async fn look(row: &Row) -> Result<()> {
    let env = fs::read_to_string(&row.env_file)
        .map_err(|e| Error::usage(format!("cannot read {}", row.env_file.display())).source(e))?;
    let value = |name: &str| value_of(&env, name, &row.env_file);
    let green = PgServer::at(value("KONGFERRY_LAB_POSTGRES")?)?.database(NAME);
    let blue = Keyspace::open(&Endpoint::open(value("KONGFERRY_LAB_CASSANDRA")?), NAME).await?;
    let fits = |one: &Value| match row.value.as_str() {
        "*" => !one[&row.column].is_null(),
        value => one[&row.column] == value,
    };
    let on_green = green.rows(&row.table).await?.into_iter().find(fits).unwrap_or_default();
    let on_blue = blue.rows(&row.table).await?.into_iter().find(|one| one.get("id") == Some(&on_green["id"]));
    let on_blue = Value::Object(on_blue.unwrap_or_default());
    println!("  {:<14}  {:<52}  on green", "", "on blue");
    for column in &row.shown {
        let blue = match (column.as_str(), &on_blue[column]) {
            // Not a column there, but a property of every cell.
            ("ttl", Value::Null) => {
                match blue.ttl(&row.table, "created_at", &json!({ "id": on_green["id"] })).await? {
                    Some(seconds) => format!("{seconds} s left in every cell"),
                    None => "–".to_owned(),
                }
            }
            (_, value) => shown(value),
        };
        println!("  {column:<14}  {blue:<52}  {}", shown(&on_green[column]));
    }
    Ok(())
}

struct Day {
    env_file: PathBuf,
    consumers: u64,
    day: u32,
}

fn parse_day(mut given: impl Iterator<Item = String>) -> Result<Day> {
    let mut next = |what: &str| given.next().ok_or_else(|| usage(format!("change needs {what}")));
    let (env_file, consumers, day) = (PathBuf::from(next("a file")?), next("a number")?, next("a day")?);
    let number = |text: &str| usage(format!("change takes a number, not {text}"));
    Ok(Day {
        env_file,
        consumers: consumers.parse().map_err(|_| number(&consumers))?,
        day: day.parse().map_err(|_| number(&day))?,
    })
}

async fn change(day: &Day) -> Result<()> {
    let env = fs::read_to_string(&day.env_file)
        .map_err(|e| Error::usage(format!("cannot read {}", day.env_file.display())).source(e))?;
    let cassandra = value_of(&env, "KONGFERRY_LAB_CASSANDRA", &day.env_file)?;
    let blue = Keyspace::open(&Endpoint::open(cassandra), NAME).await?;
    let workspaces = blue.rows("workspaces").await?;
    let default = workspaces.iter().find(|row| row.get("name") == Some(&json!("default")));
    let id = default.and_then(|row| row.get("id")?.as_str()?.parse().ok());
    let id = id.ok_or_else(|| Error::usage("blue has no default workspace"))?;
    fill::day(&blue, id, day.consumers, day.day).await
}

/// A variable of a file that --env-file wrote.
fn value_of<'e>(env: &'e str, name: &str, file: &std::path::Path) -> Result<&'e str> {
    let found = env.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.ok_or_else(|| Error::usage(format!("{name} is not in {}", file.display())))
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
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
    let mut arguments = Arguments {
        line: "3.3".to_owned(),
        fixture: None,
        fill: 0,
        env_file: None,
        kong_password: enterprise::PASSWORD.to_owned(),
    };
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
            "--kong-password" => arguments.kong_password = value,
            _ => return Err(usage(format!("{flag} is not known"))),
        }
    }
    Ok(arguments)
}

async fn up(arguments: Arguments) -> Result<()> {
    Box::pin(until_ended(run(arguments))).await
}

/// Until the work ends or a signal ends it.
async fn until_ended(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Before anything is started, so that Ctrl-C during the start does not leave anything either.
    let stopped = until_stopped()?;
    tokio::select! {
        () = stopped => Ok(()),
        result = work => result,
    }
}

fn parse_dns(mut given: impl Iterator<Item = String>) -> Result<Option<PathBuf>> {
    match (given.next().as_deref(), given.next(), given.next()) {
        (None, _, _) => Ok(None),
        (Some("--config-file"), Some(file), None) => Ok(Some(PathBuf::from(file))),
        _ => Err(usage("dns takes --config-file FILE".to_owned())),
    }
}

/// Never ends by itself; the server ends when it is dropped.
async fn dns(config_file: Option<PathBuf>) -> Result<()> {
    let server = PowerDns::start().await?;
    let record = json!({ "content": "127.0.0.1", "disabled": false });
    let api = json!([{ "name": "api.example.test.", "type": "A", "ttl": 300, "records": [record] }]);
    server.create_zone("example.test.", api).await?;
    let sections = format!(
        "zone = \"example.test\"\n\n[[record]]\nname = \"api.example.test\"\ntype = \"A\"\n\
         blue = [\"127.0.0.1\"]\ngreen = [\"127.0.0.2\"]\n\n[provider]\nkind = \"powerdns\"\nurl = \"{}\"\n\
         api_key = {{ file = \"{}\" }}\n\n[query]\nname_servers = [\"{}\"]\n",
        server.url(),
        server.api_key_file().display(),
        server.dns(),
    );
    println!("{sections}");
    if let Some(file) = &config_file {
        publish(file, &sections)?;
    }
    eprintln!("ready; Ctrl-C stops PowerDNS and removes its data");
    std::future::pending().await
}

/// Never ends by itself; the servers end when it is dropped.
async fn run(arguments: Arguments) -> Result<()> {
    eprintln!("starting Cassandra and PostgreSQL");
    // Filling it takes long enough for the optimising compiler to pay.
    let options = Options { optimised: arguments.fill > 0, ..Options::default() };
    let (cassandra, local) = tokio::try_join!(Cassandra::start(options), postgres::start())?;
    let (endpoint, server) = (cassandra.endpoint(), PgServer::from(&local));
    let blue = prepare_blue(&endpoint, &arguments).await?;
    let password = Some(arguments.kong_password.as_str()).filter(|password| !password.is_empty());
    let green = green::fresh_green_with_password(&server, NAME, &arguments.line, password).await?;
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
