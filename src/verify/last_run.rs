//! What the journal on green records of the last applied run: its rejects, the tables that it moved, and the
//! definitions that it left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Json;
use sqlx::Row;

use super::key::canonical_key;
use crate::error::Result;
use crate::green::definitions::Definitions;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query;

/// The last applied run; empty where there is none.
#[derive(Debug, Clone, Default)]
pub struct LastRun {
    pub id: Option<String>,
    /// Canonical keys of its rejects, by table.
    pub rejected: BTreeMap<String, HashSet<String>>,
    /// Tables of which it wrote rows to green.
    pub moved: BTreeSet<String>,
    /// The definitions of Kong's schema as it left them, where it recorded them.
    pub definitions: Option<Definitions>,
}

impl LastRun {
    pub async fn read(green: &Green) -> Result<LastRun> {
        let action = "cannot read the journal on green";
        let work = quote(green.work_schema());
        let mut tx = green.begin_snapshot().await?;
        if !green.has_own_table(&mut tx, "run").await.during(green, action)? {
            return Ok(LastRun::default());
        }
        let sql = fill(include_str!("../../sql/verify/latest_run.sql"), &[("work", &work)]);
        let Some(row) = query(sql).fetch_optional(&mut *tx).await.during(green, action)? else {
            return Ok(LastRun::default());
        };
        let id: String = row.try_get("run").during(green, action)?;
        let tables: Option<Json> = row.try_get("tables").during(green, action)?;
        let mut run = LastRun { moved: moved_tables(tables.as_ref()), ..LastRun::default() };
        let sql =
            fill("select table_name, key from {work}.reject where run_id = $1::uuid", &[("work", &work)]);
        for reject in query(sql).bind(&id).fetch_all(&mut *tx).await.during(green, action)? {
            let table: String = reject.try_get("table_name").during(green, action)?;
            let key: Json = reject.try_get("key").during(green, action)?;
            run.rejected.entry(table).or_default().insert(canonical_key(&key));
        }
        run.definitions = Definitions::recorded(&mut tx, &work, &id).await.during(green, action)?;
        run.id = Some(id);
        tx.rollback().await.during(green, action)?;
        Ok(run)
    }
}

fn moved_tables(tables: Option<&Json>) -> BTreeSet<String> {
    let count = |table: &Json, class: &str| table.get(class).and_then(Json::as_u64).unwrap_or(0);
    let has_rows = |table: &&Json| count(table, "applied") + count(table, "repaired") > 0;
    let name = |table: &Json| table.get("table").and_then(Json::as_str).map(str::to_owned);
    tables.and_then(Json::as_array).into_iter().flatten().filter(has_rows).filter_map(name).collect()
}
