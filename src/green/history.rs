//! Reads the runs in the journal, and drops our own schema.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::types::Json;

use super::journal;
use super::session::Green;
use super::sql::{fill, quote};
use super::statement::query_scalar;
use crate::error::{Error, Result};
use crate::green::session::During;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedRun {
    pub run: String,
    /// `staging`, `staged`, `applied`, `repaired`, `refused`, `failed` or `cut off`.
    pub state: String,
    /// In UTC.
    pub started: String,
    /// Its duration until now, or until it ended.
    pub seconds: f64,
    pub kongferry: String,
    pub host: String,
    pub process_id: i32,
    pub blue_cluster: String,
    pub blue_keyspace: String,
    pub map_digest: String,
    /// Counts per table, once it was applied.
    pub tables: Option<Value>,
    pub phases: Option<Value>,
    /// The number of rows that it rejected.
    pub rejects: i64,
    /// Whether it describes Kong's current tables, or is history only.
    pub is_current: bool,
}

/// One relation in our own schema.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnRelation {
    pub name: String,
    pub bytes: i64,
    pub about_rows: i64,
    pub is_ours: bool,
}

/// The latest runs; empty without a journal.
pub async fn runs(green: &Green, limit: i64) -> Result<Vec<RecordedRun>> {
    let work = quote(green.work_schema());
    green
        .read("cannot read the journal on green", async |tx| {
            if !green.has_own_table(tx, "run").await? {
                return Ok(Vec::new());
            }
            let runs: Vec<Json<RecordedRun>> =
                query_scalar(fill(include_str!("../../sql/journal/runs.sql"), &[("work", &work)]))
                    .bind(green.kong_schema())
                    .bind(limit)
                    .bind(journal::run_lock_name(green))
                    .fetch_all(tx)
                    .await?;
            Ok(runs.into_iter().map(|Json(run)| run).collect())
        })
        .await
}

pub async fn own_relations(green: &Green) -> Result<Vec<OwnRelation>> {
    let listed = green.read("cannot list kongferry's own tables on green", async |tx| {
        let relations: Vec<Json<OwnRelation>> =
            query_scalar(include_str!("../../sql/journal/own_relations.sql"))
                .bind(green.work_schema())
                .fetch_all(tx)
                .await?;
        Ok(relations.into_iter().map(|Json(relation)| relation).collect())
    });
    listed.await
}

/// Drops our schema. Refused during a run, and where the schema has a relation that kongferry did not create.
pub async fn remove(green: &Green, found: &[OwnRelation]) -> Result<()> {
    let foreign = found.iter().filter(|relation| !relation.is_ours);
    let foreign: Vec<&str> = foreign.map(|relation| relation.name.as_str()).collect();
    if !foreign.is_empty() {
        return Err(Error::refused(format!(
            "the schema \"{}\" on green has relations that kongferry did not create: {}",
            green.work_schema(),
            foreign.join(", ")
        ))
        .remedy("Move them to another schema, and run the command again."));
    }
    let action = "cannot drop kongferry's own schema on green";
    // This transaction has the run lock: a run that begins meanwhile is refused.
    let mut tx = journal::take_run_lock(green).await?;
    for relation in found {
        let name = format!("{}.{}", quote(green.work_schema()), quote(&relation.name));
        // Our tables refer only to each other.
        let sql = fill("drop table if exists {name} cascade", &[("name", &name)]);
        sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, action)?;
    }
    let sql = fill("drop schema if exists {work}", &[("work", &quote(green.work_schema()))]);
    sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, action)?;
    tx.commit().await.during(green, action)
}
