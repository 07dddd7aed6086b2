//! The journal read: which runs there were; and the end of it, when our schema leaves green.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;

use super::journal;
use super::session::Green;
use super::sql::{fill, quote};
use super::statement::query_scalar;
use crate::error::{Error, Result};
use crate::green::session::During;

/// One run, as the journal has it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub run: String,
    /// `staging`, `staged`, `applied`, `repaired`, `refused`, `failed` or `cut off`.
    pub state: String,
    /// When it began, in UTC.
    pub started: String,
    /// How long it took, or takes so far.
    pub seconds: f64,
    /// The version of this program.
    pub kongferry: String,
    /// Where it ran.
    pub host: String,
    /// As which process.
    pub process_id: i32,
    /// Blue's cluster.
    pub blue_cluster: String,
    /// Blue's keyspace.
    pub blue_keyspace: String,
    /// Digest of the schema maps in force.
    pub map_digest: String,
    /// Counts per table, once it was applied.
    pub tables: Option<Value>,
    /// Wall time of its phases.
    pub phases: Option<Value>,
    /// Rows that it left behind.
    pub rejects: i64,
    /// Whether it is about Kong's tables as they stand now, or history only.
    pub is_current: bool,
}

/// One relation in our own schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Belonging {
    /// Its name.
    pub name: String,
    /// Its size with indexes.
    pub bytes: i64,
    /// Rows, as green's statistics have them.
    pub about_rows: i64,
    /// Whether we made it.
    pub is_ours: bool,
}

/// The latest runs; none where there is no journal.
pub async fn runs(green: &Green, limit: i64) -> Result<Vec<Run>> {
    let work = quote(green.work_schema());
    green
        .read("cannot read the journal on green", async |tx| {
            if !green.has_own_table(tx, "run").await? {
                return Ok(Vec::new());
            }
            let runs: Vec<Json<Run>> =
                query_scalar(fill(include_str!("../../sql/journal/runs.sql"), &[("work", &work)]))
                    .bind(green.kong_schema())
                    .bind(limit)
                    .bind(journal::guard_name(green))
                    .fetch_all(tx)
                    .await?;
            Ok(runs.into_iter().map(|Json(run)| run).collect())
        })
        .await
}

/// Everything in our own schema.
pub async fn belongings(green: &Green) -> Result<Vec<Belonging>> {
    let listed = green.read("cannot list kongferry's own tables on green", async |tx| {
        let relations: Vec<Json<Belonging>> =
            query_scalar(include_str!("../../sql/journal/own_relations.sql"))
                .bind(green.work_schema())
                .fetch_all(tx)
                .await?;
        Ok(relations.into_iter().map(|Json(relation)| relation).collect())
    });
    listed.await
}

/// Removes our schema. Refused while a run is at work, and where something stands in it that we did not make.
pub async fn remove(green: &Green, found: &[Belonging]) -> Result<()> {
    let strangers: Vec<&str> = found.iter().filter(|one| !one.is_ours).map(|one| one.name.as_str()).collect();
    if !strangers.is_empty() {
        return Err(Error::refused(format!(
            "the schema \"{}\" on green holds what kongferry did not make: {}",
            green.work_schema(),
            strangers.join(", ")
        ))
        .remedy("Move it elsewhere, and run the command again."));
    }
    let what = "cannot remove our schema from green";
    // The guard is this transaction itself: a run that begins meanwhile waits or is refused.
    let mut tx = journal::take_guard(green).await?;
    for one in found {
        let name = format!("{}.{}", quote(green.work_schema()), quote(&one.name));
        // Tables of ours refer to each other only.
        let sql = fill("drop table if exists {name} cascade", &[("name", &name)]);
        sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, what)?;
    }
    let sql = fill("drop schema if exists {work}", &[("work", &quote(green.work_schema()))]);
    sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, what)?;
    tx.commit().await.during(green, what)
}
