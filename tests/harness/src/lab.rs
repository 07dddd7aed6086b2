//! One Cassandra and one PostgreSQL for all tests of a test binary.
//!
//! Each is started by the first test that asks for it. With `KONGFERRY_LAB_CASSANDRA=HOST:PORT` or
//! `KONGFERRY_LAB_POSTGRES=postgres://…` in the environment that server is used instead, and nothing is stopped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kongferry::error::{Error, Result};
use kongferry::green::local::LocalPostgres;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::cassandra::{self, Cassandra, Endpoint};
use crate::catalog::{Catalog, KeyspaceOptions};
use crate::certs::Certificates;
use crate::enterprise;
use crate::fixture::Fixture;
use crate::green;
use crate::keyspace::{Keyspace, LoadOptions};
use crate::keyspace_pool;
use crate::postgres::{self, Database, PgServer};

/// The shared servers. It holds addresses, not connections: those are made anew for each test, because they belong
/// to the test's runtime.
#[derive(Debug, Default)]
pub struct Lab {
    cassandra: Shared<Endpoint, Cassandra>,
    postgres: Shared<PgServer, LocalPostgres>,
    secured_cassandra: Shared<Endpoint, Cassandra>,
    secured_postgres: Shared<PgServer, LocalPostgres>,
    certificates: OnceCell<Certificates>,
    keyspaces: Mutex<HashMap<String, Arc<OnceCell<String>>>>,
}

/// The address of a server and, if we started it, the server. That can be taken out at the end, when a static can
/// not be dropped.
#[derive(Debug)]
struct Shared<A, S>(OnceCell<(A, Mutex<Option<S>>)>);

impl<A, S> Default for Shared<A, S> {
    fn default() -> Self {
        Shared(OnceCell::new())
    }
}

impl<A, S> Shared<A, S> {
    /// The address; the first caller starts the server, the others wait.
    async fn get(&self, start: impl AsyncFnOnce() -> Result<(A, Option<S>)>) -> Result<&A> {
        let start = async || {
            let (address, server) = start().await?;
            Ok::<_, Error>((address, Mutex::new(server)))
        };
        Ok(&self.0.get_or_try_init(start).await?.0)
    }

    fn stop(&self) {
        if let Some((_, server)) = self.0.get() {
            drop(server.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }
}

pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        // A static is never dropped. Without this the servers would end with this process, but their directories
        // would stay until the next run.
        // SAFETY: the function is an `extern "C" fn()` that lives as long as the program.
        unsafe { nix::libc::atexit(stop_at_exit) };
        Lab::default()
    })
}

extern "C" fn stop_at_exit() {
    let lab = lab();
    lab.cassandra.stop();
    lab.postgres.stop();
    lab.secured_cassandra.stop();
    lab.secured_postgres.stop();
}

impl Lab {
    /// The shared Cassandra, without logins and TLS.
    pub async fn cassandra(&self) -> Result<&Endpoint> {
        let start = async || match std::env::var("KONGFERRY_LAB_CASSANDRA") {
            Ok(address) => Ok((Endpoint::open(address), None)),
            Err(_) => start_cassandra(cassandra::Options::default()).await,
        };
        self.cassandra.get(start).await
    }

    /// The shared PostgreSQL, without passwords and TLS.
    pub async fn postgres(&self) -> Result<&PgServer> {
        let start = async || match std::env::var("KONGFERRY_LAB_POSTGRES") {
            Ok(url) => Ok((PgServer::at(&url)?, None)),
            Err(_) => own_postgres(postgres::start().await?),
        };
        self.postgres.get(start).await
    }

    /// A Cassandra that requires TLS and a password; the endpoint is the superuser's. Its tables are those
    /// that the tests make.
    pub async fn secured_cassandra(&self) -> Result<&Endpoint> {
        let certificates = self.certificates().await?;
        let options = cassandra::Options { heap_mb: 512, ..cassandra::Options::secured(certificates) };
        self.secured_cassandra.get(async || start_cassandra(options).await).await
    }

    /// A PostgreSQL that requires TLS and scram-sha-256.
    pub async fn secured_postgres(&self) -> Result<&PgServer> {
        let certificates = self.certificates().await?;
        let start = async || own_postgres(postgres::start_secured(certificates).await?);
        self.secured_postgres.get(start).await
    }

    /// What the secured servers show, their CA, and a client certificate that they know.
    pub async fn certificates(&self) -> Result<&Certificates> {
        self.certificates.get_or_try_init(async || Certificates::generate()).await
    }

    /// A keyspace with the shipped rows of `line`, shared by all tests of this process: only read it. Rows with a
    /// short time to live may have expired.
    pub async fn keyspace(&self, line: &str) -> Result<Keyspace> {
        let cell = {
            let mut keyspaces = self.keyspaces.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keyspaces.entry(line.to_owned()).or_default())
        };
        let load = || async {
            let mut keyspace = self.loaded_keyspace(line, &Fixture::shipped(line)?).await?;
            keyspace.keep();
            Ok::<_, Error>(keyspace.name().to_owned())
        };
        let name = cell.get_or_try_init(load).await?;
        Keyspace::open(self.cassandra().await?, name).await
    }

    /// A keyspace of one's own with the tables of `line` and no rows, without indexes.
    pub async fn fresh_keyspace(&self, line: &str) -> Result<Keyspace> {
        self.fresh_keyspace_with(line, KeyspaceOptions::default()).await
    }

    pub async fn fresh_keyspace_with(&self, line: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        self.create_keyspace(line, &Catalog::of(line)?, options).await
    }

    /// A keyspace of one's own with some of the tables of `line`, without rows and indexes.
    pub async fn keyspace_with_tables(&self, line: &str, tables: &[&str]) -> Result<Keyspace> {
        let mut catalog = Catalog::of(line)?;
        catalog.tables.retain(|table, _| tables.contains(&table.as_str()));
        self.create_keyspace(line, &catalog, KeyspaceOptions::default()).await
    }

    async fn create_keyspace(
        &self,
        line: &str,
        catalog: &Catalog,
        options: KeyspaceOptions,
    ) -> Result<Keyspace> {
        let endpoint = self.cassandra().await?;
        let lease = keyspace_pool::take(endpoint, &unique_name(line), line, catalog, options).await?;
        Keyspace::open_leased(endpoint, lease).await
    }

    /// A keyspace of one's own with the shipped rows of `line`.
    pub async fn filled_keyspace(&self, line: &str) -> Result<Keyspace> {
        self.loaded_keyspace(line, &Fixture::shipped(line)?).await
    }

    /// A keyspace of one's own with the tables of `line` and the rows of any directory of the fixtures' format.
    pub async fn keyspace_from(&self, line: &str, directory: &Path) -> Result<Keyspace> {
        self.loaded_keyspace(line, &Fixture::read(directory)?).await
    }

    /// A keyspace of one's own as the bootstrap of a line of Enterprise leaves it: its rows, on Cassandra. `password` is
    /// `KONG_PASSWORD`.
    pub async fn bootstrapped_keyspace(&self, line: &str, password: Option<&str>) -> Result<Keyspace> {
        self.loaded_keyspace(line, &enterprise::bootstrapped_blue(line, password)?).await
    }

    /// A database of one's own as the bootstrap of `line` leaves it, on Enterprise with a `KONG_PASSWORD`.
    pub async fn fresh_green(&self, line: &str) -> Result<Database> {
        self.fresh_green_with_password(line, Some(enterprise::PASSWORD)).await
    }

    /// The same with this `KONG_PASSWORD`, or none.
    pub async fn fresh_green_with_password(&self, line: &str, password: Option<&str>) -> Result<Database> {
        green::fresh_green_with_password(self.postgres().await?, &unique_name(line), line, password).await
    }

    /// An empty database of one's own.
    pub async fn empty_database(&self) -> Result<Database> {
        self.postgres().await?.create_database(&unique_name("empty")).await
    }

    async fn loaded_keyspace(&self, line: &str, fixture: &Fixture) -> Result<Keyspace> {
        let keyspace = self.fresh_keyspace(line).await?;
        keyspace.load(fixture, LoadOptions::default()).await?;
        Ok(keyspace)
    }
}

/// `kong_3_3_0f1e2d3c4b5a`: fits the 48 bytes of a keyspace, needs no quotes, and is free on a server that other
/// processes use as well.
fn unique_name(line: &str) -> String {
    let plain: String = line.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("kong_{plain}_{}", &Uuid::new_v4().simple().to_string()[..12])
}

async fn start_cassandra(options: cassandra::Options) -> Result<(Endpoint, Option<Cassandra>)> {
    let cassandra = Cassandra::start(options).await?;
    Ok((cassandra.endpoint(), Some(cassandra)))
}

fn own_postgres(local: LocalPostgres) -> Result<(PgServer, Option<LocalPostgres>)> {
    Ok((PgServer::from(&local), Some(local)))
}
