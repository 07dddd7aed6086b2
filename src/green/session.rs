//! Connections to green, each transaction with its own settings.
//!
//! [`Green::begin`] is the only way to the database. Nothing is ever set for a session: between us and green there may
//! be a pooler in transaction mode, which gives every transaction another session. Statements come from
//! [`statement`] for the same reason.

use std::fmt;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Transaction};

use super::config::GreenConfig;
use super::explain;
use super::sql::quote;
use super::statement;
use crate::error::{Error, Kind, Result};

/// Green, ready for transactions. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Green {
    pool: PgPool,
    config: GreenConfig,
    server_version: String,
    server_version_num: i32,
    application_name: String,
    /// What every transaction sets for itself, after its `begin`.
    settings: String,
}

impl fmt::Debug for Green {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Green").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What ends a transaction of [`Green::read`] or [`Green::write`] before its time.
pub(crate) enum TransactionFailure {
    /// Explained by the action of the whole transaction.
    Statement(sqlx::Error),
    Explained(Error),
}

impl From<sqlx::Error> for TransactionFailure {
    fn from(error: sqlx::Error) -> Self {
        TransactionFailure::Statement(error)
    }
}

impl From<Error> for TransactionFailure {
    fn from(error: Error) -> Self {
        TransactionFailure::Explained(error)
    }
}

/// Turns the driver's errors into ours.
pub(crate) trait During<T> {
    /// `action` begins the message, such as `cannot fill the stage of "routes"`.
    fn during(self, green: &Green, action: impl fmt::Display) -> Result<T>;
}

impl<T> During<T> for sqlx::Result<T> {
    fn during(self, green: &Green, action: impl fmt::Display) -> Result<T> {
        self.map_err(|e| green.explain(e, &action.to_string()))
    }
}

impl Green {
    /// Connects and checks that Kong's schema exists. Does not read the schema, and writes nothing.
    pub async fn connect(config: &GreenConfig, application_name: &str) -> Result<Green> {
        config.check_files()?;
        // For `verify-ca` sqlx takes the provider of the process, and panics where none is installed. One that was
        // installed before is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = config.options(application_name);
        // The pool retries a refused connection and then only reports a timeout; a connection of our own shows the reason.
        let connection = Box::pin(first_connection(&options, config)).await?;
        // An error while closing changes nothing: the connection is not used again.
        let _ = connection.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(config.max_connections)
            .acquire_timeout(config.connect_timeout.max(Duration::from_secs(30)))
            .connect_lazy_with(options);
        let mut green = Green {
            pool,
            config: config.clone(),
            server_version: String::new(),
            server_version_num: 0,
            application_name: application_name.to_owned(),
            settings: settings(config),
        };
        green.read_server().await?;
        green.check_schema().await?;
        Ok(green)
    }

    /// Runs `work` in a transaction that sees one state of the database throughout and cannot write. A statement's
    /// error is explained with `action`, such as `cannot read green's catalog`.
    pub(crate) async fn read<T>(
        &self,
        action: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, TransactionFailure>,
    ) -> Result<T> {
        let mut tx = self.begin_snapshot().await?;
        let value = work(&mut tx).await.map_err(|failure| self.explain_failure(failure, action))?;
        tx.rollback().await.during(self, action)?;
        Ok(value)
    }

    /// Runs `work` in a transaction that reads and writes, and commits it. An error rolls it back, and is explained as
    /// in [`Green::read`].
    pub(crate) async fn write<T>(
        &self,
        action: &str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, TransactionFailure>,
    ) -> Result<T> {
        let mut tx = self.begin().await?;
        let value = work(&mut tx).await.map_err(|failure| self.explain_failure(failure, action))?;
        tx.commit().await.during(self, action)?;
        Ok(value)
    }

    fn explain_failure(&self, failure: TransactionFailure, action: &str) -> Error {
        match failure {
            TransactionFailure::Statement(error) => self.explain(error, action),
            TransactionFailure::Explained(error) => error,
        }
    }

    /// Begins a transaction that reads and writes, at READ COMMITTED.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_as("begin isolation level read committed, read write").await
    }

    /// Whether a table of our own exists on green: before the first run none does.
    pub(crate) async fn has_own_table(&self, tx: &mut sqlx::PgConnection, table: &str) -> sqlx::Result<bool> {
        statement::query_scalar("select to_regclass($1) is not null")
            .bind(format!("{}.{table}", quote(self.work_schema())))
            .fetch_one(tx)
            .await
    }

    /// Begins a transaction that sees one state of the database throughout and cannot write.
    pub async fn begin_snapshot(&self) -> Result<Transaction<'static, Postgres>> {
        self.begin_as("begin isolation level repeatable read, read only").await
    }

    async fn begin_as(&self, begin: &str) -> Result<Transaction<'static, Postgres>> {
        // One message, so that beginning costs one round trip.
        let sql = format!("{begin}; {}", self.settings);
        self.pool.begin_with(AssertSqlSafe(sql)).await.during(self, "cannot begin a transaction on green")
    }

    /// Raises one of green's memory settings for this transaction, unless it is as high already.
    pub(crate) async fn at_least(&self, tx: &mut PgConnection, setting: &str, least: &str) -> Result<()> {
        statement::query(
            "select set_config($1, $2, true) where pg_size_bytes(current_setting($1)) < pg_size_bytes($2)",
        )
        .bind(setting)
        .bind(least)
        .execute(tx)
        .await
        .map(|_| ())
        .during(self, format_args!("cannot set {setting} on green"))
    }

    pub(crate) fn config(&self) -> &GreenConfig {
        &self.config
    }

    /// The schema with Kong's tables, unquoted. In every transaction it is the whole search path.
    pub(crate) fn kong_schema(&self) -> &str {
        self.config.kong_schema()
    }

    /// The schema with our own tables, unquoted.
    pub(crate) fn work_schema(&self) -> &str {
        self.config.work_schema()
    }

    /// The name of our connections, by which they are told from other sessions.
    pub(crate) fn application_name(&self) -> &str {
        &self.application_name
    }

    /// Such as `15.14 (Debian 15.14-0+deb12u1)`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// Such as 150014.
    pub fn server_version_num(&self) -> i32 {
        self.server_version_num
    }

    /// Whether it can hash a whole row (`hash_record_extended`), which is new in 14.
    pub(crate) fn hashes_rows(&self) -> bool {
        self.server_version_num >= 140_000
    }

    /// Turns the driver's error about a statement into ours. `action` begins the message.
    pub fn explain(&self, error: sqlx::Error, action: &str) -> Error {
        explain::statement(&error, &self.config, action)
    }

    /// Closes all connections that are not in use, and waits for the others.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Reads the version, and adds the settings that depend on it.
    async fn read_server(&mut self) -> Result<()> {
        let action = "cannot read green's version";
        let sql = "select current_setting('server_version'), current_setting('server_version_num'),
                   current_setting('synchronous_commit')";
        let (version, number, commit): (String, String, String) =
            self.write(action, async |tx| Ok(statement::query_as(sql).fetch_one(tx).await?)).await?;
        self.server_version = version;
        self.server_version_num = number.parse().unwrap_or(0);
        // Newer servers can end a transaction for its duration alone.
        if self.server_version_num >= 170_000 {
            self.settings.push_str("; set local transaction_timeout = 0");
        }
        // What is reported as applied must survive a crash of green, whatever the setting allows for Kong's own writes.
        if commit == "off" {
            self.settings.push_str("; set local synchronous_commit = on");
        }
        Ok(())
    }

    async fn check_schema(&self) -> Result<()> {
        if !self.config.schema_must_exist() {
            return Ok(());
        }
        let action = "cannot list green's schemas";
        let schema = self.kong_schema();
        let sql = "select nspname::text from pg_namespace
                   where nspname !~ '^pg_' and nspname <> 'information_schema' order by 1";
        let schemas: Vec<String> =
            self.read(action, async |tx| Ok(statement::query_scalar(sql).fetch_all(tx).await?)).await?;
        if schemas.iter().any(|name| name == schema) {
            return Ok(());
        }
        Err(no_schema(&self.config, &schemas))
    }
}

fn no_schema(config: &GreenConfig, found: &[String]) -> Error {
    let schema = config.kong_schema();
    let message = format!("database \"{}\" of green has no schema \"{schema}\"", config.database());
    let error = Error::new(Kind::Connection, message);
    if let Some(other) = found.iter().find(|name| name.eq_ignore_ascii_case(schema)) {
        return error.remedy(format!("Pass --green-schema \"{other}\": names are case-sensitive."));
    }
    let names = found.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    error.detail(format!("its schemas are: {names}")).remedy(
        "Give the pg_schema of Kong's configuration with --green-schema; if it is new, run \"kong migrations bootstrap\" \
         first.",
    )
}

/// The settings without which Kong's own triggers write to the wrong schema or delete live rows
/// (docs/kong-data-model.md, 4.12 and 4.12b), and those without which a setting of the role or the database could change
/// what is read or end a transaction.
fn settings(config: &GreenConfig) -> String {
    [
        "set local time zone 'UTC'".to_owned(),
        // Exactly Kong's schema, as Kong itself does; pg_catalog is searched before it anyway.
        format!("set local search_path to {}", quote(config.kong_schema())),
        "set local datestyle to 'ISO, YMD'".to_owned(),
        "set local intervalstyle to 'postgres'".to_owned(),
        "set local extra_float_digits = 3".to_owned(),
        "set local bytea_output = 'hex'".to_owned(),
        "set local statement_timeout = 0".to_owned(),
        "set local idle_in_transaction_session_timeout = 0".to_owned(),
        format!("set local lock_timeout = {}", config.lock_timeout.as_millis()),
        // An error, instead of rows that a policy hides silently.
        "set local row_security = off".to_owned(),
    ]
    .join("; ")
}

async fn first_connection(options: &PgConnectOptions, config: &GreenConfig) -> Result<PgConnection> {
    match tokio::time::timeout(config.connect_timeout, PgConnection::connect_with(options)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(explain::connect(&error, config)),
        Err(_) => Err(explain::no_answer(config)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_path_is_one_quoted_schema() {
        let config = GreenConfig::parse("postgres://u@h/d")
            .and_then(|config| config.with_schemas("Ko\"ng, pg_temp", "kongferry"))
            .expect("an unusual name");
        assert!(settings(&config).contains("set local search_path to \"Ko\"\"ng, pg_temp\"; "));
    }

    /// Transactions run in spawned tasks too, with what they borrow and with errors of either kind.
    #[test]
    fn transactions_may_move_between_threads() {
        fn is_send<T: Send>(future: T) -> T {
            future
        }
        async fn count(green: &Green, tables: &[String], seen: &mut Vec<i64>) -> Result<i64> {
            let action = format!("cannot count {} tables", tables.len());
            let count = green.write(&action, async |tx| {
                for table in tables {
                    green.at_least(tx, "work_mem", "1MB").await?;
                    let sql = super::super::sql::fill("select count(*) from {table}", &[("table", table)]);
                    seen.push(statement::query_scalar(sql).fetch_one(&mut *tx).await?);
                }
                Ok(seen.iter().sum())
            });
            count.await
        }
        let spawned =
            |green: Green| is_send(async move { count(&green, &[String::new()], &mut Vec::new()).await });
        let _ = spawned;
    }

    #[test]
    fn every_setting_is_local_to_its_transaction() {
        let config = GreenConfig::parse("postgres://u@h/d").expect("an address");
        for setting in settings(&config).split("; ") {
            assert!(setting.starts_with("set local "), "{setting}");
        }
    }
}
