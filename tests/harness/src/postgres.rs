//! A real PostgreSQL: started by kongferry's own code, or one that is already there.

use std::str::FromStr;

use kongferry::error::Result;
use kongferry::green::local::{LocalPostgres, Options, ServerTls};
use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};

use crate::catalog::quote;
use crate::certs::Certificates;
use crate::context::Context;

/// The superuser's password of [`start_secured`].
pub const PASSWORD: &str = "green: superuser";

/// A PostgreSQL that takes any number of tests: no password, no TLS, nothing synced to disk.
pub async fn start() -> Result<LocalPostgres> {
    LocalPostgres::start(base()).await
}

/// A PostgreSQL that requires TLS and scram-sha-256, for the connection tests.
pub async fn start_secured(certificates: &Certificates) -> Result<LocalPostgres> {
    let tls = ServerTls {
        certificate: certificates.server.certificate.clone(),
        key: certificates.server.key.clone(),
        client_ca: Some(certificates.ca.clone()),
    };
    LocalPostgres::start(base().password(PASSWORD).tls(tls)).await
}

/// Connections for many tests at once, and a time zone west of UTC: in it Kong's triggers take live rows for expired ones,
/// so a session that does not set its time zone fails a test.
fn base() -> Options {
    Options::default()
        .line("fsync = off")
        .line("synchronous_commit = off")
        .line("full_page_writes = off")
        // A server that lives for minutes gains nothing from vacuum, which would visit hundreds of databases in turn, nor
        // from checkpoints.
        .line("autovacuum = off")
        .line("checkpoint_timeout = 1h")
        .line("max_wal_size = 4GB")
        .line("max_connections = 300")
        .line("timezone = 'America/St_Johns'")
}

/// A PostgreSQL server and how its superuser comes in. It can be shared between threads and runtimes, which a
/// connection can not.
#[derive(Debug, Clone)]
pub struct PgServer {
    options: PgConnectOptions,
    url: String,
}

impl From<&LocalPostgres> for PgServer {
    fn from(local: &LocalPostgres) -> Self {
        PgServer { options: local.connect_options("postgres"), url: local.url("postgres") }
    }
}

impl PgServer {
    /// A server that is already there; `url` names its maintenance database.
    pub fn at(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).context(|| format!("{url} is no PostgreSQL URL"))?;
        Ok(PgServer { options, url: url.to_owned() })
    }

    /// One of its databases, there or not.
    pub fn database(&self, name: &str) -> Database {
        let (before, after) =
            self.url.split_once('?').map_or((self.url.as_str(), None), |(b, a)| (b, Some(a)));
        let server = before.rsplit_once('/').map_or(before, |(server, _)| server);
        let query = after.map(|after| format!("?{after}")).unwrap_or_default();
        Database {
            name: name.to_owned(),
            url: format!("{server}/{name}{query}"),
            options: self.options.clone().database(name),
        }
    }

    /// Makes an empty database.
    pub async fn create_database(&self, name: &str) -> Result<Database> {
        self.maintain(&format!("create database {}", quote(name))).await?;
        Ok(self.database(name))
    }

    /// Creates a database as a copy of another one without connections.
    pub async fn copy_database(&self, name: &str, template: &str) -> Result<Database> {
        self.maintain(&format!("create database {} template {}", quote(name), quote(template))).await?;
        Ok(self.database(name))
    }

    /// Runs one statement in the maintenance database.
    pub async fn maintain(&self, sql: &str) -> Result<()> {
        let mut connection = connect(&self.options).await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        done.context(|| format!("PostgreSQL refuses: {sql}"))?;
        close(connection).await
    }

    /// A connection to the maintenance database.
    pub async fn connect(&self) -> Result<PgConnection> {
        connect(&self.options).await
    }
}

/// A database of a [`PgServer`].
#[derive(Debug, Clone)]
pub struct Database {
    name: String,
    url: String,
    options: PgConnectOptions,
}

impl Database {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `postgres://USER@HOST:PORT/NAME`, without the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What sqlx needs to connect, password and TLS included. Sessions are in the server's zone, which is not UTC.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A new connection in the runtime of the caller, in UTC as Kong's own are.
    pub async fn connect(&self) -> Result<PgConnection> {
        connect(&self.options.clone().options([("timezone", "UTC")])).await
    }

    /// Runs any number of statements, without results.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        let mut connection = self.connect().await?;
        let done = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        let start: String = sql.chars().take(200).collect();
        done.context(|| format!("PostgreSQL refuses: {start}"))?;
        close(connection).await
    }

    /// Inserts a row with the given columns; the others take their defaults.
    pub async fn insert(&self, table: &str, row: &Value) -> Result<()> {
        let mut connection = self.connect().await?;
        insert(&mut connection, table, row).await?;
        close(connection).await
    }

    /// The rows of a table as JSON, in no order that matters. Times are in UTC.
    pub async fn rows(&self, table: &str) -> Result<Vec<Value>> {
        self.json(&format!("select to_jsonb(t) from {} t", quote(table))).await
    }

    /// How many rows a table has.
    pub async fn count(&self, table: &str) -> Result<i64> {
        let rows = self.json(&format!("select to_jsonb(count(*)) from {}", quote(table))).await?;
        Ok(rows.first().and_then(Value::as_i64).unwrap_or_default())
    }

    /// The results of a query with one column of type jsonb.
    pub async fn json(&self, sql: &str) -> Result<Vec<Value>> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await;
        let rows = rows.context(|| format!("PostgreSQL refuses: {sql}"))?;
        close(connection).await?;
        Ok(rows)
    }
}

/// Inserts the columns that `row` names.
pub(crate) async fn insert(connection: &mut PgConnection, table: &str, row: &Value) -> Result<()> {
    let names = row.as_object().into_iter().flatten().map(|(name, _)| quote(name));
    let (table, columns) = (quote(table), names.collect::<Vec<_>>().join(", "));
    let sql = format!(
        "insert into {table} ({columns}) select {columns} from jsonb_populate_record(null::{table}, $1)"
    );
    let done = sqlx::query(AssertSqlSafe(sql)).bind(row).execute(connection).await;
    done.map(|_| ()).context(|| format!("PostgreSQL refuses a row of {table}"))
}

/// Connects without logging each statement: a test prints what it means to.
async fn connect(options: &PgConnectOptions) -> Result<PgConnection> {
    let options = options.clone().disable_statement_logging();
    let connected = PgConnection::connect_with(&options).await;
    connected
        .context(|| format!("cannot connect to PostgreSQL at {}:{}", options.get_host(), options.get_port()))
}

/// Waits until the server has let go, so that the database can be a template or be dropped.
async fn close(connection: PgConnection) -> Result<()> {
    connection.close().await.context(|| "PostgreSQL ended the connection".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_keeps_the_options_of_its_server() {
        let server = PgServer::at("postgres://me@host:5433/postgres?sslmode=require").unwrap();
        assert_eq!(server.database("kong").url(), "postgres://me@host:5433/kong?sslmode=require");
    }
}
