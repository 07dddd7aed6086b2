//! `make bench`: how fast kongferry moves Kong's rows, beside what the machine could do at best.
//!
//! Everything is measured in one run on the same rows, the steps one after another and the whole sequence again for
//! each round, so that a busy moment hits all of them. `benches/README.md` says how to read the result. With `--smoke`
//! (in `make test`) it only shows that it works: few rows, one round, nothing judged.

mod floor;
mod naive;
mod program;
mod servers;
mod shape;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kongferry::error::{Error, Kind, Result};

use floor::Floor;
use program::Program;
use servers::{Measured, Servers};
use shape::Shape;
use table::Table;

/// Requests under way at once that the bare scan tries; the best one counts.
const SCAN_SETTINGS: [usize; 3] = [2, 4, 8];

/// What the command line and the environment ask for.
struct Options {
    shape: Shape,
    rounds: u32,
    result: PathBuf,
    /// Only to show that it works.
    smoke: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let run = async {
        let options = options()?;
        Box::pin(run(&options)).await
    };
    match run.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for line in error.causes().iter().chain(error.details()) {
                eprintln!("  {line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let smoke = std::env::args().any(|argument| argument == "--smoke");
    let number = |name: &str, otherwise: u64| match std::env::var(name) {
        Ok(text) => text.parse().map_err(|_| Error::usage(format!("{name} is a number, not {text}"))),
        Err(_) => Ok(otherwise),
    };
    // target/release/kongferry-bench leaves its result in target/.
    let target = program::beside("..")?;
    let name = std::env::var("SHAPE").unwrap_or_else(|_| "consumers".to_owned());
    if smoke {
        let shape = Shape::new(&name, 300)?;
        return Ok(Options {
            shape,
            rounds: 1,
            result: target.join(format!("bench-smoke-{name}.json")),
            smoke,
        });
    }
    let shape = Shape::new(&name, number("N", Shape::usual(&name))?)?;
    let rounds = u32::try_from(number("ROUNDS", 3)?).unwrap_or(3).max(1);
    Ok(Options { shape, rounds, result: target.join("bench.json"), smoke })
}

async fn run(options: &Options) -> Result<()> {
    eprintln!("starting Cassandra and PostgreSQL, and writing {}", options.shape);
    let servers = Servers::start(&options.shape).await?;
    let program = Program::new()?;
    let mut table = Table::new(servers.rows().await?);
    let green = servers.fresh_green("warm").await?;
    // Not measured: it warms both servers, and its rows are those that the floors and the naive way write.
    program.run("migrate", &servers, &green).await?.expect(&[0])?;
    let floor = Floor::prepare(&servers, &green).await?;
    for round in 1..=options.rounds {
        servers.settle(options.smoke).await?;
        eprintln!("round {round} of {}, load average {}", options.rounds, servers::load_average());
        one_round(round, &servers, &program, &floor, &mut table).await?;
    }
    table.finish()?;
    println!("{table}");
    table.write(&options.result)?;
    if options.smoke { smoke_test(&options.result) } else { Ok(()) }
}

async fn one_round(
    round: u32,
    servers: &Servers,
    program: &Program,
    floor: &Floor,
    table: &mut Table,
) -> Result<()> {
    let mut scans = Vec::new();
    for setting in SCAN_SETTINGS {
        scans.push(servers.measure(floor.scan(setting)).await?);
    }
    table.add("scan", Measured::quickest(scans));
    let green = servers.fresh_green("floor").await?;
    floor.make_room(&green).await?;
    table.add("copy", servers.measure(floor.copy(&green)).await?);
    naive::prepare(&green, servers.workspaces()).await?;
    table.add("naive", servers.measure(naive::apply(&green, floor.tables())).await?);

    let green = servers.fresh_green("green").await?;
    table.add("plan", program.run("plan", servers, &green).await?.expect(&[0])?);
    let migrated = program.run("migrate", servers, &green).await?.expect(&[0])?;
    for phase in ["stage", "check", "apply"] {
        table.add(phase, migrated.phase(phase)?);
    }
    table.add("migrate", migrated);
    table.add("verify", program.run("verify", servers, &green).await?.expect(&[0])?);
    table.add("incremental", program.run("migrate", servers, &green).await?.expect(&[0])?);
    servers.change_one_percent(round).await?;
    table.add("incremental_changed", program.run("migrate", servers, &green).await?.expect(&[0])?);
    Ok(())
}

/// The file has the keys that its readers rely on, and every number is one.
fn smoke_test(result: &Path) -> Result<()> {
    let broken = |what: String| Error::new(Kind::Server, what);
    let text = std::fs::read_to_string(result).map_err(|e| broken(format!("{}: {e}", result.display())))?;
    let json: serde_json::Value = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
    for key in ["/rows", "/peak_rss_mb"] {
        let number = json.pointer(key).and_then(serde_json::Value::as_f64);
        number.filter(|number| *number > 0.0).ok_or_else(|| broken(format!("no {key} in {text}")))?;
    }
    for (group, names) in [("seconds", table::LINES), ("ratios", table::RATIOS)] {
        for name in names {
            let number = json.pointer(&format!("/{group}/{name}")).and_then(serde_json::Value::as_f64);
            number
                .filter(|number| *number > 0.0)
                .ok_or_else(|| broken(format!("no {group}.{name} in {text}")))?;
        }
    }
    Ok(())
}
