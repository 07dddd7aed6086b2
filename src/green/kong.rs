//! What Kong on green says about itself, and what our role may do there: read only.

use sqlx::PgConnection;

use super::session::Green;
use super::sql::{fill, quote};
use super::statement::{query, query_as, query_scalar};
use crate::error::Result;
use crate::green::session::During;

/// How often, and how far apart, other sessions are looked for before they count.
const LEAVING_LOOKS: u32 = 6;
const LEAVING_PAUSE: std::time::Duration = std::time::Duration::from_millis(250);

/// One row of Kong's record of migrations: subsystem, last executed, executed, pending.
pub type MetaRow = (String, Option<String>, Option<Vec<String>>, Option<Vec<String>>);

/// Another client of green's database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Session {
    /// Process id on the server.
    pub pid: i32,
    /// Its role.
    pub user_name: String,
    /// What it calls itself.
    pub application: String,
    /// Where it comes from.
    pub client: String,
}

/// What our role lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissingRights {
    /// Kong's tables on which it may not do all that is needed.
    pub tables: Vec<String>,
    /// The statements that would let our role use our own schema, where it may not.
    pub work_schema: Option<String>,
}

impl Green {
    /// Kong's record of migrations.
    pub async fn schema_meta(&self, table: &str) -> Result<Vec<MetaRow>> {
        let action = "cannot read Kong's record of migrations on green";
        let sql = fill(
            "select subsystem, last_executed, executed, pending from {table}",
            &[("table", &quote(table))],
        );
        self.read(action, async |tx| Ok(query_as(sql).fetch_all(tx).await?)).await
    }

    /// Live locks of a running migration: rows whose time has not run out.
    pub async fn live_locks(&self, table: &str, expiry: &str) -> Result<i64> {
        let action = "cannot read the locks of Kong's migrations on green";
        let sql = fill(
            "select count(*) from {table} where {ttl} is null or {ttl} > now()",
            &[("table", &quote(table)), ("ttl", &quote(expiry))],
        );
        self.read(action, async |tx| Ok(query_scalar(sql).fetch_one(tx).await?)).await
    }

    /// Other clients of the database. One that is just going away is given a moment to do so: a script that ran `psql`
    /// right before us would else be told that green is in use.
    pub async fn other_sessions(&self, tx: &mut PgConnection) -> Result<Vec<Session>> {
        for _ in 0..LEAVING_LOOKS {
            if self.sessions_now(tx).await?.is_empty() {
                return Ok(Vec::new());
            }
            tokio::time::sleep(LEAVING_PAUSE).await;
        }
        self.sessions_now(tx).await
    }

    async fn sessions_now(&self, tx: &mut PgConnection) -> Result<Vec<Session>> {
        let what = "cannot see who else uses green";
        // Within a transaction PostgreSQL shows the sessions of its first look for ever.
        let look = query("select pg_stat_clear_snapshot()").execute(&mut *tx).await;
        look.during(self, what)?;
        let rows: Vec<(i32, String, String, String)> =
            query_as(include_str!("../../sql/inspect/sessions.sql"))
                .bind(self.application_name())
                .fetch_all(tx)
                .await
                .during(self, what)?;
        let session = |(pid, user_name, application, client)| Session { pid, user_name, application, client };
        Ok(rows.into_iter().map(session).collect())
    }

    /// Rows of each of these tables, exactly.
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

    /// What our role would lack for a migration into these tables.
    pub async fn missing_rights(&self, tables: &[String]) -> Result<MissingRights> {
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
            Ok(MissingRights { tables: lacking, work_schema })
        })
        .await
    }

    /// Bytes of the whole database, as PostgreSQL counts them.
    pub async fn size(&self) -> Result<i64> {
        let sql = "select pg_database_size(current_database())";
        self.read("cannot read green's size", async |tx| Ok(query_scalar(sql).fetch_one(tx).await?)).await
    }

    /// Free bytes where the database's files are, when they are on this machine and our role may know where.
    pub async fn free_bytes(&self) -> Option<u64> {
        let sql = "select current_setting('data_directory')";
        let asked = self.read("cannot read green's settings", async |tx| {
            Ok(query_scalar::<String>(sql).fetch_one(tx).await?)
        });
        let folder = asked.await.ok()?;
        let folder = std::path::Path::new(&folder);
        // The same path on this machine may be another server's; only a cluster has this file.
        folder.join("PG_VERSION").exists().then_some(())?;
        let room = nix::sys::statvfs::statvfs(folder).ok()?;
        room.blocks_available().checked_mul(room.fragment_size())
    }
}
