//! One Cassandra and one PostgreSQL for all tests of a test binary.
//!
//! Each is started by the first test that asks for it. With `KONGFERRY_LAB_CASSANDRA=HOST:PORT` or
//! `KONGFERRY_LAB_POSTGRES=postgres://…` in the environment that server is used instead, and nothing is stopped.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use kongferry::error::Result;
use kongferry::green::local::LocalPostgres;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::cassandra::{Cassandra, Endpoint, Options};
use crate::catalog::{Catalog, KeyspaceOptions};
use crate::fixture::Fixture;
use crate::green;
use crate::keyspace::{Keyspace, LoadOptions};
use crate::postgres::{self, Database, PgServer};

/// The shared servers. It holds addresses, not connections: those are made anew for each test, because they belong
/// to the test's runtime.
#[derive(Debug, Default)]
pub struct Lab {
    cassandra: OnceCell<(Endpoint, Owned<Cassandra>)>,
    postgres: OnceCell<(PgServer, Owned<LocalPostgres>)>,
    keyspaces: Mutex<HashMap<String, Arc<OnceCell<String>>>>,
}

/// The server if it is ours; it can be taken out at the end, when the lab itself cannot be dropped any more.
type Owned<T> = Mutex<Option<T>>;

/// The lab of this process.
pub fn lab() -> &'static Lab {
    static LAB: OnceLock<Lab> = OnceLock::new();
    LAB.get_or_init(|| {
        // A static is never dropped. Without this the servers would still die with us, but their directories
        // would stay until the next run.
        // SAFETY: the function is an `extern "C" fn()` that lives as long as the program.
        unsafe { nix::libc::atexit(stop_at_exit) };
        Lab::default()
    })
}

extern "C" fn stop_at_exit() {
    let Lab { cassandra, postgres, .. } = lab();
    if let Some((_, owned)) = cassandra.get() {
        drop(owned.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
    if let Some((_, owned)) = postgres.get() {
        drop(owned.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Lab {
    /// The shared Cassandra, without logins and TLS.
    pub async fn cassandra(&self) -> Result<&Endpoint> {
        let (endpoint, _) = self.cassandra.get_or_try_init(start_cassandra).await?;
        Ok(endpoint)
    }

    /// The shared PostgreSQL, without passwords and TLS.
    pub async fn postgres(&self) -> Result<&PgServer> {
        let (server, _) = self.postgres.get_or_try_init(start_postgres).await?;
        Ok(server)
    }

    /// A keyspace with the shipped rows of `line`, shared by all tests of this process: only read it. Rows with a
    /// short time to live may have expired.
    pub async fn keyspace(&self, line: &str) -> Result<Keyspace> {
        let cell = {
            let mut keyspaces = self.keyspaces.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(keyspaces.entry(line.to_owned()).or_default())
        };
        let load = || async {
            let keyspace = self.loaded_keyspace(line, &Fixture::shipped(line)?).await?;
            Ok::<_, kongferry::error::Error>(keyspace.name().to_owned())
        };
        let name = cell.get_or_try_init(load).await?;
        Keyspace::open(self.cassandra().await?, name).await
    }

    /// A keyspace of one's own with the tables of `line` and no rows, without indexes.
    pub async fn fresh_keyspace(&self, line: &str) -> Result<Keyspace> {
        self.fresh_keyspace_with(line, KeyspaceOptions::default()).await
    }

    /// The same with options.
    pub async fn fresh_keyspace_with(&self, line: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let (endpoint, name) = (self.cassandra().await?, unique_name(line));
        Catalog::of(line)?.create(&endpoint.session().await?, &name, options).await?;
        Keyspace::open(endpoint, &name).await
    }

    /// A keyspace of one's own with the shipped rows of `line`.
    pub async fn filled_keyspace(&self, line: &str) -> Result<Keyspace> {
        self.loaded_keyspace(line, &Fixture::shipped(line)?).await
    }

    /// A keyspace of one's own with the tables of `line` and the rows of any directory of the fixtures' format.
    pub async fn keyspace_from(&self, line: &str, directory: &Path) -> Result<Keyspace> {
        self.loaded_keyspace(line, &Fixture::read(directory)?).await
    }

    /// A database of one's own as the bootstrap of `line` leaves it.
    pub async fn fresh_green(&self, line: &str) -> Result<Database> {
        green::fresh_green(self.postgres().await?, &unique_name(line), line).await
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

async fn start_cassandra() -> Result<(Endpoint, Owned<Cassandra>)> {
    if let Ok(address) = std::env::var("KONGFERRY_LAB_CASSANDRA") {
        return Ok((Endpoint::open(address), Mutex::new(None)));
    }
    let cassandra = Cassandra::start(Options::default()).await?;
    Ok((cassandra.endpoint(), Mutex::new(Some(cassandra))))
}

async fn start_postgres() -> Result<(PgServer, Owned<LocalPostgres>)> {
    if let Ok(url) = std::env::var("KONGFERRY_LAB_POSTGRES") {
        return Ok((PgServer::at(&url)?, Mutex::new(None)));
    }
    let local = postgres::start().await?;
    Ok((PgServer::from(&local), Mutex::new(Some(local))))
}
