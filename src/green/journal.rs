//! The journal on green: which run did what, and the guard that lets only one run work at a time.
//!
//! The guard is a transaction of its own that holds an advisory lock from begin to end: it lives as long as the
//! process does and needs no clean-up after a kill.

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

/// Who runs what: the fixed part of a run's entry.
#[derive(Debug, Clone)]
pub struct RunEntry {
    /// Its id.
    pub run: Uuid,
    /// Blue's cluster.
    pub cluster: String,
    /// Blue's keyspace.
    pub keyspace: String,
    /// Digest of the schema maps in force.
    pub map_digest: String,
}

const STATE: &str = "cannot record the state of the run in the journal on green";

/// The journal of runs, and the right to be the only one.
pub struct Journal {
    green: Green,
    run: Uuid,
    guard: Transaction<'static, Postgres>,
}

impl Journal {
    /// Makes our schema if it is not there, takes the guard, and enters the run.
    pub async fn open(green: &Green, entry: &RunEntry) -> Result<Journal> {
        ensure_schema(green).await?;
        let guard = take_guard(green).await?;
        let journal = Journal { green: green.clone(), run: entry.run, guard };
        journal.enter(entry).await?;
        Ok(journal)
    }

    async fn enter(&self, entry: &RunEntry) -> Result<()> {
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

    /// Enters a new state and, if given, the counts per table; inside the caller's transaction, so that the state
    /// `applied` is committed with the rows or not at all.
    pub async fn state(&self, tx: &mut PgConnection, state: &str, tables: Option<&Value>) -> Result<()> {
        let sql = fill(
            include_str!("../../sql/journal/update_state.sql"),
            &[("work", &quote(self.green.work_schema()))],
        );
        let done = query(sql).bind(self.run).bind(state).bind(tables).execute(tx).await;
        done.map(|_| ()).during(&self.green, STATE)
    }

    /// Enters how long the phases took, once the run has ended. The rows stand on green whether or not this can be noted.
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

    /// Enters a new state in a transaction of its own.
    pub async fn note(&self, state: &str) -> Result<()> {
        self.green.write(STATE, async |tx| Ok(self.state(tx, state, None).await?)).await
    }

    /// Keeps of each reject what may be kept: key, reason and a digest, never the row.
    pub async fn keep_rejects(&self, tx: &mut PgConnection) -> Result<()> {
        let sql = fill(
            include_str!("../../sql/journal/insert_rejects.sql"),
            &[("work", &quote(self.green.work_schema()))],
        );
        let done = query(sql).bind(self.run).execute(tx).await;
        done.map(|_| ()).during(&self.green, "cannot keep the rejects in the journal")
    }

    /// Keeps the definitions of Kong's schema as the run leaves them.
    pub async fn keep_definitions(&self, tx: &mut PgConnection) -> Result<()> {
        let definitions = Definitions::read(tx, self.green.kong_schema()).await?;
        let kept = definitions.record(tx, &quote(self.green.work_schema()), self.run).await;
        kept.during(&self.green, "cannot keep the definitions of Kong's schema in the journal")
    }

    /// Makes sure that no other run can have begun meanwhile: the guard goes with its connection.
    pub async fn still_guarded(&mut self) -> Result<()> {
        let asked = query("select 1").execute(&mut *self.guard).await;
        asked.map(|_| ()).during(&self.green, "the guard on green is gone, so nothing is applied")
    }

    /// Whether the run was committed after all, when its commit failed with this error. Waits until the server has ended
    /// that transaction; the error comes back where it cannot be asked.
    pub async fn was_applied(&self, error: Error) -> Result<bool> {
        self.came_to("applied", error).await
    }

    /// The same for another state that its commit would have entered.
    pub async fn came_to(&self, wanted: &str, error: Error) -> Result<bool> {
        let sql = fill(
            "select state from {work}.run where run_id = $1 for update",
            &[("work", &quote(self.green.work_schema()))],
        );
        let asked = async {
            let mut tx = self.green.begin().await.ok()?;
            query_scalar::<String>(sql).bind(self.run).fetch_optional(&mut *tx).await.ok()?
        };
        match asked.await {
            Some(state) => Ok(state == wanted),
            None => Err(error.detail(format!(
                "Whether the rows were applied is not known: the state of run {} in the journal says so once green answers.",
                self.run
            ))),
        }
    }

    /// Lets the next run in.
    pub async fn close(self) -> Result<()> {
        self.guard.rollback().await.during(&self.green, "cannot release the guard on green")
    }
}

/// A row that the last applied run left behind.
#[derive(Debug, Clone)]
pub struct LeftBehind {
    /// Its table.
    pub table_name: String,
    /// Its key, as JSON text.
    pub key: String,
    /// The code of the reason.
    pub reason: String,
    /// The digest of its values, where it could be converted.
    pub mark: Option<Vec<u8>>,
}

/// What the last run that was applied to this very database left behind with somebody's consent.
pub async fn left_behind(green: &Green) -> Result<Vec<LeftBehind>> {
    let sql =
        fill(include_str!("../../sql/journal/latest_rejects.sql"), &[("work", &quote(green.work_schema()))]);
    let rejects = green.read("cannot read the rejects of earlier runs from the journal", async |tx| {
        if !green.has_own_table(tx, "reject").await? {
            return Ok(Vec::new());
        }
        let rows: Vec<(String, String, String, Option<Vec<u8>>)> =
            super::statement::query_as(sql).bind(green.kong_schema()).fetch_all(tx).await?;
        let row = |(table_name, key, reason, mark)| LeftBehind {
            table_name,
            key,
            reason: current_code(reason),
            mark,
        };
        Ok(rows.into_iter().map(row).collect())
    });
    rejects.await
}

/// The text whose hash is the guard's number.
pub(super) fn guard_name(green: &Green) -> String {
    format!("kongferry/{}", green.work_schema())
}

fn guard_key(green: &Green) -> String {
    format!("hashtextextended({}, 0)", literal(&guard_name(green)))
}

/// Takes the guard, or says who has it.
pub async fn take_guard(green: &Green) -> Result<Transaction<'static, Postgres>> {
    let what = "cannot take the guard on green";
    let mut guard = green.begin().await?;
    let sql = fill("select pg_try_advisory_xact_lock({key})", &[("key", &guard_key(green))]);
    let alone: bool = query_scalar(sql).fetch_one(&mut *guard).await.during(green, what)?;
    if alone { Ok(guard) } else { Err(other_run(green).await) }
}

/// Takes the guard of a run that has just been cut off: its connection may take a moment to go.
pub async fn wait_for_guard(green: &Green) -> Result<Transaction<'static, Postgres>> {
    let what = "cannot take the guard on green";
    let mut guard = green.begin().await?;
    let sql = fill(
        "set local lock_timeout = '3s'; select pg_advisory_xact_lock({key})",
        &[("key", &guard_key(green))],
    );
    sqlx::raw_sql(sql).execute(&mut *guard).await.during(green, what)?;
    Ok(guard)
}

/// Enters that a run was cut off, and says its state; nothing where it had not come as far as the journal.
pub async fn after_interruption(green: &Green, run: Uuid) -> Result<Option<String>> {
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

/// Makes our schema, or says which right is missing.
async fn ensure_schema(green: &Green) -> Result<()> {
    let create = green.write(CREATE_SCHEMA, async |tx| {
        let exists: bool = query_scalar("select exists (select from pg_namespace where nspname = $1)")
            .bind(green.work_schema())
            .fetch_one(&mut *tx)
            .await?;
        if !exists {
            let sql = fill("create schema {work}", &[("work", &quote(green.work_schema()))]);
            sqlx::raw_sql(sql).execute(tx).await.map_err(|e| missing_right(green, e))?;
        }
        Ok(())
    });
    create.await
}

fn missing_right(green: &Green, error: sqlx::Error) -> Error {
    if super::explain::sqlstate(&error).as_deref() != Some("42501") {
        return green.explain(error, CREATE_SCHEMA);
    }
    let config = green.config();
    Error::refused(format!(
        "the role \"{}\" may not create the schema \"{}\" for our own tables on green",
        config.username(),
        green.work_schema()
    ))
    .remedy(format!(
        "As the owner of the database, run: {}",
        grant(green.work_schema(), config.username(), false)
    ))
}

/// The statements that give a role a schema of its own, or the use of one that is there.
pub fn grant(work_schema: &str, role: &str, is_there: bool) -> String {
    let (schema, role) = (quote(work_schema), quote(role));
    if is_there {
        format!(
            "GRANT USAGE, CREATE ON SCHEMA {schema} TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role};"
        )
    } else {
        format!("CREATE SCHEMA {schema} AUTHORIZATION {role};")
    }
}

/// Says who holds the guard.
async fn other_run(green: &Green) -> Error {
    let error = Error::refused("another kongferry works on this database")
        .remedy("Wait until it has ended, or stop it; its work is undone by itself.");
    let Ok(mut tx) = green.begin().await else { return error };
    let sql =
        fill(include_str!("../../sql/journal/latest_run.sql"), &[("work", &quote(green.work_schema()))]);
    match query_scalar::<String>(sql).fetch_optional(&mut *tx).await {
        Ok(Some(who)) => error.detail(who),
        _ => error,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "?".to_owned())
}
