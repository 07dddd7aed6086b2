//! The journal on green: the runs and their results, and the run lock, which allows only one run at a time.
//!
//! The run lock is an advisory lock that a transaction of its own holds from begin to end: it is released when the process
//! ends, so a killed process leaves nothing to clean up.

use serde_json::Value;
use sqlx::{PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::definitions::Definitions;
use super::session::Green;
use super::sql::{fill, literal, quote};
use super::statement::{query, query_scalar};
use crate::error::{Error, Result};
use crate::green::session::During;
use crate::mapping::reason::current_code;

/// The fixed part of a run's entry.
#[derive(Debug, Clone)]
pub struct RunEntry {
    pub run: Uuid,
    pub cluster: String,
    pub keyspace: String,
    pub map_digest: String,
}

const STATE: &str = "cannot record the state of the run in the journal on green";

/// The journal, with the run lock.
pub struct Journal {
    green: Green,
    run: Uuid,
    run_lock: Transaction<'static, Postgres>,
}

impl Journal {
    /// Creates our schema if it does not exist, takes the run lock, and inserts the run.
    pub async fn open(green: &Green, entry: &RunEntry) -> Result<Journal> {
        ensure_schema(green).await?;
        let run_lock = take_run_lock(green).await?;
        let journal = Journal { green: green.clone(), run: entry.run, run_lock };
        journal.insert_run(entry).await?;
        Ok(journal)
    }

    async fn insert_run(&self, entry: &RunEntry) -> Result<()> {
        let work = quote(self.green.work_schema());
        let action = "cannot record the run in the journal on green";
        let insert = self.green.write(action, async |tx| {
            let sql = fill(include_str!("../../sql/journal/create.sql"), &[("work", &work)]);
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
            let sql = fill(include_str!("../../sql/journal/insert_run.sql"), &[("work", &work)]);
            query(sql)
                .bind(entry.run)
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(host_name())
                .bind(i32::try_from(std::process::id()).unwrap_or(0))
                .bind(&entry.cluster)
                .bind(&entry.keyspace)
                .bind(self.green.kong_schema())
                .bind(&entry.map_digest)
                .execute(tx)
                .await?;
            Ok(())
        });
        insert.await
    }

    /// Records a new state and, if given, the counts per table; inside the caller's transaction, so that the state
    /// `applied` is committed with the rows or not at all.
    pub async fn state(&self, tx: &mut PgConnection, state: &str, tables: Option<&Value>) -> Result<()> {
        let sql = fill(
            include_str!("../../sql/journal/update_state.sql"),
            &[("work", &quote(self.green.work_schema()))],
        );
        let done = query(sql).bind(self.run).bind(state).bind(tables).execute(tx).await;
        done.map(|_| ()).during(&self.green, STATE)
    }

    /// Records the durations of the phases, once the run has ended. The rows are on green whether or not this succeeds.
    pub async fn seconds(&self, seconds: &Value) -> Result<()> {
        let sql = fill(
            "update {work}.run set seconds = $2 where run_id = $1",
            &[("work", &quote(self.green.work_schema()))],
        );
        let action = "cannot record the durations in the journal on green";
        let update = self.green.write(action, async |tx| {
            query(sql).bind(self.run).bind(seconds).execute(tx).await?;
            Ok(())
        });
        update.await
    }

    /// Records a new state in a transaction of its own.
    pub async fn note(&self, state: &str) -> Result<()> {
        self.green.write(STATE, async |tx| Ok(self.state(tx, state, None).await?)).await
    }

    /// Records the key, the reason and a digest of each reject, never the row.
    pub async fn keep_rejects(&self, tx: &mut PgConnection) -> Result<()> {
        let sql = fill(
            include_str!("../../sql/journal/insert_rejects.sql"),
            &[("work", &quote(self.green.work_schema()))],
        );
        let done = query(sql).bind(self.run).execute(tx).await;
        done.map(|_| ()).during(&self.green, "cannot record the rejects in the journal on green")
    }

    /// Records the definitions of Kong's schema at the end of the run.
    pub async fn keep_definitions(&self, tx: &mut PgConnection) -> Result<()> {
        let definitions = Definitions::read(tx, self.green.kong_schema()).await?;
        let recorded = definitions.record(tx, &quote(self.green.work_schema()), self.run).await;
        recorded.during(&self.green, "cannot record the definitions of Kong's schema in the journal on green")
    }

    /// Fails where another run may have begun meanwhile: the run lock is lost with its connection.
    pub async fn check_run_lock(&mut self) -> Result<()> {
        let asked = query("select 1").execute(&mut *self.run_lock).await;
        asked.map(|_| ()).during(&self.green, "the run lock on green was lost; nothing was applied")
    }

    /// Whether the run was committed although its commit failed with this error. Waits until the server has ended that
    /// transaction; returns the error where green does not answer.
    pub async fn was_applied(&self, error: Error) -> Result<bool> {
        self.has_state("applied", error).await
    }

    /// The same for another state that the commit would have recorded.
    pub async fn has_state(&self, expected: &str, error: Error) -> Result<bool> {
        let sql = fill(
            "select state from {work}.run where run_id = $1 for update",
            &[("work", &quote(self.green.work_schema()))],
        );
        let asked = async {
            let mut tx = self.green.begin().await.ok()?;
            query_scalar::<String>(sql).bind(self.run).fetch_optional(&mut *tx).await.ok()?
        };
        match asked.await {
            Some(state) => Ok(state == expected),
            None => Err(error.detail(format!(
                "Whether the rows were applied is unknown: check the state of run {} with \"kongferry status\" once green answers.",
                self.run
            ))),
        }
    }

    pub async fn close(self) -> Result<()> {
        self.run_lock.rollback().await.during(&self.green, "cannot release the run lock on green")
    }
}

/// A row that the last applied run rejected.
#[derive(Debug, Clone)]
pub struct AcceptedReject {
    pub table_name: String,
    /// Its key, as JSON text.
    pub key: String,
    pub reason: String,
    /// The digest of its values, where it could be converted.
    pub digest: Option<Vec<u8>>,
}

/// The rejects of the last run that was applied to this very database: the operator accepted them.
pub async fn accepted_rejects(green: &Green) -> Result<Vec<AcceptedReject>> {
    let sql =
        fill(include_str!("../../sql/journal/latest_rejects.sql"), &[("work", &quote(green.work_schema()))]);
    let rejects = green.read("cannot read the rejects of earlier runs from the journal", async |tx| {
        if !green.has_own_table(tx, "reject").await? {
            return Ok(Vec::new());
        }
        let rows: Vec<(String, String, String, Option<Vec<u8>>)> =
            super::statement::query_as(sql).bind(green.kong_schema()).fetch_all(tx).await?;
        let row = |(table_name, key, reason, digest)| AcceptedReject {
            table_name,
            key,
            reason: current_code(reason),
            digest,
        };
        Ok(rows.into_iter().map(row).collect())
    });
    rejects.await
}

/// The text whose hash is the key of the run lock.
pub(super) fn run_lock_name(green: &Green) -> String {
    format!("kongferry/{}", green.work_schema())
}

fn run_lock_key(green: &Green) -> String {
    format!("hashtextextended({}, 0)", literal(&run_lock_name(green)))
}

/// Takes the run lock; where another process has it, the error names that process.
pub async fn take_run_lock(green: &Green) -> Result<Transaction<'static, Postgres>> {
    let action = "cannot take the run lock on green";
    let mut run_lock = green.begin().await?;
    let sql = fill("select pg_try_advisory_xact_lock({key})", &[("key", &run_lock_key(green))]);
    let is_taken: bool = query_scalar(sql).fetch_one(&mut *run_lock).await.during(green, action)?;
    if is_taken { Ok(run_lock) } else { Err(other_run(green).await) }
}

/// Takes the run lock after an interrupted run, whose connection may take a moment to close.
pub async fn wait_for_run_lock(green: &Green) -> Result<Transaction<'static, Postgres>> {
    let action = "cannot take the run lock on green";
    let mut run_lock = green.begin().await?;
    let sql = fill(
        "set local lock_timeout = '3s'; select pg_advisory_xact_lock({key})",
        &[("key", &run_lock_key(green))],
    );
    sqlx::raw_sql(sql).execute(&mut *run_lock).await.during(green, action)?;
    Ok(run_lock)
}

/// Records that a run was interrupted, and returns its state; `None` where the journal does not have it.
pub async fn record_interruption(green: &Green, run: Uuid) -> Result<Option<String>> {
    let sql = fill(include_str!("../../sql/journal/interrupt.sql"), &[("work", &quote(green.work_schema()))]);
    let update = green.write("cannot record the interruption of the run in the journal", async |tx| {
        if !green.has_own_table(tx, "run").await? {
            return Ok(None);
        }
        Ok(query_scalar(sql).bind(run).fetch_optional(tx).await?)
    });
    update.await
}

const CREATE_SCHEMA: &str = "cannot create kongferry's own schema on green";

/// Creates our schema, or names the missing privilege.
async fn ensure_schema(green: &Green) -> Result<()> {
    let create = green.write(CREATE_SCHEMA, async |tx| {
        let exists: bool = query_scalar("select exists (select from pg_namespace where nspname = $1)")
            .bind(green.work_schema())
            .fetch_one(&mut *tx)
            .await?;
        if !exists {
            let sql = fill("create schema {work}", &[("work", &quote(green.work_schema()))]);
            sqlx::raw_sql(sql).execute(tx).await.map_err(|e| missing_privilege(green, e))?;
        }
        Ok(())
    });
    create.await
}

fn missing_privilege(green: &Green, error: sqlx::Error) -> Error {
    if super::explain::sqlstate(&error).as_deref() != Some("42501") {
        return green.explain(error, CREATE_SCHEMA);
    }
    let config = green.config();
    Error::refused(format!(
        "the role \"{}\" may not create the schema \"{}\" for kongferry's own tables on green",
        config.username(),
        green.work_schema()
    ))
    .remedy(format!(
        "As the owner of the database, run: {}",
        grant(green.work_schema(), config.username(), false)
    ))
}

/// The statements that give a role a schema of its own, or the use of an existing one.
pub fn grant(work_schema: &str, role: &str, exists: bool) -> String {
    let (schema, role) = (quote(work_schema), quote(role));
    if exists {
        format!(
            "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role};"
        )
    } else {
        format!("CREATE SCHEMA {schema} AUTHORIZATION {role};")
    }
}

/// Names the process that has the run lock.
async fn other_run(green: &Green) -> Error {
    let error = Error::refused("another kongferry process uses this database")
        .remedy("Wait until it has ended, or stop it: green then rolls its transaction back.");
    let Ok(mut tx) = green.begin().await else { return error };
    let sql =
        fill(include_str!("../../sql/journal/latest_run.sql"), &[("work", &quote(green.work_schema()))]);
    match query_scalar::<String>(sql).fetch_optional(&mut *tx).await {
        Ok(Some(run)) => error.detail(run),
        _ => error,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "?".to_owned())
}
