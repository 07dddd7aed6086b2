//! Reads the state of Kong on green, and the privileges of our role there.

use sqlx::PgConnection;

use super::session::Green;
use super::sql::{fill, quote};
use super::statement::{query, query_as, query_scalar};
use crate::error::Result;
use crate::green::session::During;

/// How often, and at which interval, other sessions are read before they count.
const SESSION_ATTEMPTS: u32 = 6;
const SESSION_INTERVAL: std::time::Duration = std::time::Duration::from_millis(250);

/// One row of Kong's `schema_meta`: subsystem, last executed, executed, pending.
pub type SchemaMetaRow = (String, Option<String>, Option<Vec<String>>, Option<Vec<String>>);

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Session {
    pub pid: i32,
    pub user_name: String,
    pub application: String,
    pub client: String,
}

/// The privileges that our role lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingPrivileges {
    /// Kong's tables on which it lacks one.
    pub tables: Vec<String>,
    /// The statements that grant the use of our own schema, where it is missing.
    pub work_schema: Option<String>,
}

impl Green {
    pub async fn schema_meta(&self, table: &str) -> Result<Vec<SchemaMetaRow>> {
        let action = "cannot read Kong's record of migrations on green";
        let sql = fill(
            "select subsystem, last_executed, executed, pending from {table}",
            &[("table", &quote(table))],
        );
        self.read(action, async |tx| Ok(query_as(sql).fetch_all(tx).await?)).await
    }

    /// Counts the locks of running migrations: rows that have not expired.
    pub async fn live_locks(&self, table: &str, expiry: &str) -> Result<i64> {
        let action = "cannot read the locks of Kong's migrations on green";
        let sql = fill(
            "select count(*) from {table} where {ttl} is null or {ttl} > now()",
            &[("table", &quote(table)), ("ttl", &quote(expiry))],
        );
        self.read(action, async |tx| Ok(query_scalar(sql).fetch_one(tx).await?)).await
    }

    /// Other clients of the database. One that is just closing is given a moment: otherwise green would be reported as in
    /// use right after a script ran `psql`.
    pub async fn other_sessions(&self, tx: &mut PgConnection) -> Result<Vec<Session>> {
        for _ in 0..SESSION_ATTEMPTS {
            if self.sessions_now(tx).await?.is_empty() {
                return Ok(Vec::new());
            }
            tokio::time::sleep(SESSION_INTERVAL).await;
        }
        self.sessions_now(tx).await
    }

    async fn sessions_now(&self, tx: &mut PgConnection) -> Result<Vec<Session>> {
        let action = "cannot list the other sessions on green";
        // Within a transaction PostgreSQL always returns the sessions of the first query.
        let cleared = query("select pg_stat_clear_snapshot()").execute(&mut *tx).await;
        cleared.during(self, action)?;
        let rows: Vec<(i32, String, String, String)> =
            query_as(include_str!("../../sql/inspect/sessions.sql"))
                .bind(self.application_name())
                .fetch_all(tx)
                .await
                .during(self, action)?;
        let session = |(pid, user_name, application, client)| Session { pid, user_name, application, client };
        Ok(rows.into_iter().map(session).collect())
    }

    /// Counts the rows of each of these tables.
    pub async fn count(&self, tables: &[String]) -> Result<Vec<(String, i64)>> {
        self.read("cannot count the rows of green's tables", async |tx| {
            let mut counts = Vec::with_capacity(tables.len());
            for table in tables {
                let sql = fill("select count(*) from {table}", &[("table", &quote(table))]);
                counts.push((table.clone(), query_scalar(sql).fetch_one(&mut *tx).await?));
            }
            Ok(counts)
        })
        .await
    }

    /// The privileges that our role lacks for a migration into these tables.
    pub async fn missing_privileges(&self, tables: &[String]) -> Result<MissingPrivileges> {
        self.read("cannot read the privileges of our role on green", async |tx| {
            let lacking = query_scalar(include_str!("../../sql/inspect/missing_privileges.sql"))
                .bind(self.kong_schema())
                .bind(tables)
                .fetch_all(&mut *tx)
                .await?;
            let (exists, is_usable): (bool, bool) =
                query_as(include_str!("../../sql/inspect/work_schema.sql"))
                    .bind(self.work_schema())
                    .fetch_one(tx)
                    .await?;
            let (schema, role) = (self.work_schema(), self.config().username());
            let work_schema = (!is_usable).then(|| super::journal::grant(schema, role, exists));
            Ok(MissingPrivileges { tables: lacking, work_schema })
        })
        .await
    }

    /// The size of the whole database in bytes.
    pub async fn size(&self) -> Result<i64> {
        let sql = "select pg_database_size(current_database())";
        self.read("cannot read green's size", async |tx| Ok(query_scalar(sql).fetch_one(tx).await?)).await
    }

    /// Free bytes in the file system of the database, where it is on this machine and our role may read its path.
    pub async fn free_bytes(&self) -> Option<u64> {
        let sql = "select current_setting('data_directory')";
        let asked = self.read("cannot read green's settings", async |tx| {
            Ok(query_scalar::<String>(sql).fetch_one(tx).await?)
        });
        let directory = asked.await.ok()?;
        let directory = std::path::Path::new(&directory);
        // The same path on this machine may belong to another server; only a data directory has this file.
        directory.join("PG_VERSION").exists().then_some(())?;
        let status = nix::sys::statvfs::statvfs(directory).ok()?;
        status.blocks_available().checked_mul(status.fragment_size())
    }
}
