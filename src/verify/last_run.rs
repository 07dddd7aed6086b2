//! What the journal on green records of the last applied run: its rejects, the tables that it moved, and the
//! definitions that it left.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Json;
use sqlx::{PgConnection, Row};

use super::key::canonical_key;
use crate::error::Result;
use crate::green::definitions::Definitions;
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
        let work = quote(green.work_schema());
        let read = async |tx: &mut PgConnection| {
            if !green.has_own_table(tx, "run").await? {
                return Ok(LastRun::default());
            }
            let sql = fill(include_str!("../../sql/verify/latest_run.sql"), &[("work", &work)]);
            let Some(row) = query(sql).fetch_optional(&mut *tx).await? else {
                return Ok(LastRun::default());
            };
            let id: String = row.try_get("run")?;
            let tables: Option<Json> = row.try_get("tables")?;
            let sql =
                fill("select table_name, key from {work}.reject where run_id = $1::uuid", &[("work", &work)]);
            let mut rejected: BTreeMap<String, HashSet<String>> = BTreeMap::new();
            for reject in query(sql).bind(&id).fetch_all(&mut *tx).await? {
                let key: Json = reject.try_get("key")?;
                rejected.entry(reject.try_get("table_name")?).or_default().insert(canonical_key(&key));
            }
            let definitions = Definitions::recorded(tx, &work, &id).await?;
            Ok(LastRun { id: Some(id), rejected, moved: moved_tables(tables.as_ref()), definitions })
        };
        green.read("cannot read the journal on green", read).await
    }
}

fn moved_tables(tables: Option<&Json>) -> BTreeSet<String> {
    let count = |table: &Json, class: &str| table.get(class).and_then(Json::as_u64).unwrap_or(0);
    let has_rows = |table: &&Json| count(table, "applied") + count(table, "repaired") > 0;
    let name = |table: &Json| table.get("table").and_then(Json::as_str).map(str::to_owned);
    tables.and_then(Json::as_array).into_iter().flatten().filter(has_rows).filter_map(name).collect()
}
