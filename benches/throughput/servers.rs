//! The two servers, and what a step costs on them: wall time, and the CPU time of each side.

use std::fs;
use std::time::{Duration, Instant};

use kongferry::error::{Error, Kind, Result};
use kongferry::green::local::{self, LocalPostgres};
use kongferry_harness::cassandra::{Cassandra, Options};
use kongferry_harness::catalog::{Catalog, KeyspaceOptions};
use kongferry_harness::fixture::Fixture;
use kongferry_harness::green;
use kongferry_harness::keyspace::{Keyspace, LoadOptions};
use kongferry_harness::postgres::{Database, PgServer};
use uuid::Uuid;

use crate::shape::Shape;

const KEYSPACE: &str = "kong";

/// Tables of the fixture that every Kong has rows in.
const NEEDED: [&str; 3] = ["schema_meta", "workspaces", "parameters"];

/// Blue and green, with the rows.
pub struct Servers {
    cassandra: Cassandra,
    postgres: LocalPostgres,
    blue: Keyspace,
    shape: Shape,
    workspace: Uuid,
    workspaces: Vec<(Uuid, String)>,
}

#[derive(Debug, Clone, Default)]
pub struct Measured {
    pub seconds: f64,
    /// CPU seconds of ours, Cassandra's and PostgreSQL's; not known of a part of a step.
    pub cpu: Option<[f64; 3]>,
    /// Where it was refused, so that the time says nothing.
    pub refused: bool,
}

impl Measured {
    /// The one that took the shortest time.
    pub fn quickest(all: Vec<Measured>) -> Measured {
        all.into_iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)).unwrap_or_default()
    }
}

impl Servers {
    /// Starts both and writes the rows.
    pub async fn start(shape: &Shape) -> Result<Servers> {
        let options = Options { heap_mb: 2048, optimised: true, ..Options::default() };
        let (cassandra, postgres) =
            tokio::try_join!(Cassandra::start(options), LocalPostgres::start(as_in_production()))?;
        let endpoint = cassandra.endpoint();
        let line = shape.line();
        Catalog::of(line)?.create(&endpoint.session().await?, KEYSPACE, KeyspaceOptions::default()).await?;
        let blue = Keyspace::open(&endpoint, KEYSPACE).await?;
        let mut fixture = Fixture::shipped(line)?;
        fixture.blue.retain(|table, _| NEEDED.contains(&table.as_str()));
        blue.load(&fixture, LoadOptions::default()).await?;
        let workspaces = workspaces(&fixture);
        let default = workspaces.iter().find(|(_, name)| name == "default");
        let (workspace, _) = default.ok_or_else(|| Error::usage("the fixture has no default workspace"))?;
        let workspace = *workspace;
        shape.fill(&blue, workspace).await?;
        Ok(Servers { cassandra, postgres, blue, shape: *shape, workspace, workspaces })
    }

    pub fn blue(&self) -> &Keyspace {
        &self.blue
    }

    /// The tables with the many rows.
    pub fn tables(&self) -> &'static [&'static str] {
        self.shape.tables()
    }

    pub fn workspaces(&self) -> &[(Uuid, String)] {
        &self.workspaces
    }

    /// How many rows there are in these tables.
    pub async fn rows(&self) -> Result<u64> {
        let mut rows = 0;
        for table in self.tables() {
            rows += u64::try_from(self.blue.count(table).await?).unwrap_or(0);
        }
        Ok(rows)
    }

    /// A bootstrapped database without Kong's rows, in place of an earlier one of that name.
    pub async fn fresh_green(&self, name: &str) -> Result<Database> {
        let server = PgServer::from(&self.postgres);
        server.maintain(&format!("drop database if exists \"{name}\"")).await?;
        let green = green::fresh_green(&server, name, self.shape.line()).await?;
        // What was written so far goes to the disk now, not in the middle of the next step.
        server.maintain("checkpoint").await?;
        Ok(green)
    }

    /// Changes one row in a hundred on blue.
    pub async fn change_one_percent(&self, round: u32) -> Result<()> {
        self.shape.change(&self.blue, self.workspace, round).await
    }

    /// Waits until Cassandra has finished its own work after the writes.
    pub async fn settle(&self, at_once: bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(if at_once { 0 } else { 120 });
        let mut before = self.cpu_of_cassandra();
        let mut quiet = 0;
        while quiet < 3 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.cpu_of_cassandra();
            quiet = if now - before < 0.2 { quiet + 1 } else { 0 };
            before = now;
        }
        Ok(())
    }

    /// Measures work of this very process.
    pub async fn measure(&self, work: impl Future<Output = Result<()>>) -> Result<Measured> {
        let (own, servers, began) = (cpu_of("self", false), self.cpu(), Instant::now());
        work.await?;
        let seconds = began.elapsed().as_secs_f64();
        let [cassandra, postgres] = self.cpu_since(servers);
        Ok(Measured {
            seconds,
            cpu: Some([cpu_of("self", false) - own, cassandra, postgres]),
            refused: false,
        })
    }

    /// CPU seconds so far of Cassandra and PostgreSQL.
    pub fn cpu(&self) -> [f64; 2] {
        [self.cpu_of_cassandra(), cpu_of_postgres(self.postgres.id())]
    }

    /// CPU seconds since then.
    pub fn cpu_since(&self, [cassandra, postgres]: [f64; 2]) -> [f64; 2] {
        let now = self.cpu();
        [now[0] - cassandra, now[1] - postgres]
    }

    fn cpu_of_cassandra(&self) -> f64 {
        cpu_of(&self.cassandra.id().to_string(), false)
    }
}

/// A server as in production, not as in tests: synced to disk, its WAL complete, memory for a small machine.
fn as_in_production() -> local::Options {
    [
        "shared_buffers = 512MB",
        "wal_level = replica",
        "max_wal_senders = 5",
        "max_wal_size = 4GB",
        "checkpoint_timeout = 15min",
    ]
    .into_iter()
    .fold(local::Options::default(), local::Options::line)
}

fn workspaces(fixture: &Fixture) -> Vec<(Uuid, String)> {
    let rows = fixture.blue.get("workspaces").into_iter().flatten().map(|row| &row.row);
    rows.filter_map(|row| {
        let id = row.get("id")?.as_str()?.parse().ok()?;
        Some((id, row.get("name")?.as_str()?.to_owned()))
    })
    .collect()
}

/// User and system time of a process, in seconds, with or without that of the children it has waited for.
pub fn cpu_of(process: &str, with_children: bool) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    let children = if with_children { ticks(13) + ticks(14) } else { 0.0 };
    // Linux tells it in hundredths of a second on every machine that matters.
    (ticks(11) + ticks(12) + children) / 100.0
}

/// A PostgreSQL server: the postmaster, the processes it has waited for, and those that live.
fn cpu_of_postgres(postmaster: i32) -> f64 {
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    let living: f64 = children.unwrap_or_default().split_whitespace().map(|child| cpu_of(child, false)).sum();
    cpu_of(&postmaster.to_string(), true) + living
}

/// The load average of the last minute, as the kernel says it.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// An error of the bench itself.
pub fn failed(what: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(Kind::Server, what).source(source)
}
