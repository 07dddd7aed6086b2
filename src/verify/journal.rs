//! What the last applied run says about itself: the rows that it left behind with somebody's consent.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value as Shown;
use sqlx::Row;

use super::compare::spelled;
use crate::error::Result;
use crate::green::definitions::Definitions;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, quote};
use crate::green::statement::query;
use crate::mapping::table_plan::TableChoices;

/// The last applied run.
#[derive(Debug, Clone, Default)]
pub struct LastRun {
    /// Its id.
    pub id: Option<String>,
    /// Keys of the rows that were left behind, by table.
    pub rejected: BTreeMap<String, HashSet<String>>,
    /// Tables of which it put rows on green.
    pub moved: BTreeSet<String>,
    /// The definitions of Kong's schema that it left, where it recorded them.
    pub definitions: Option<Definitions>,
}

impl LastRun {
    /// Reads the journal; where there is none, nothing was left behind.
    pub async fn read(green: &Green) -> Result<LastRun> {
        let what = "cannot read the journal on green";
        let work = quote(green.work_schema());
        let mut tx = green.begin_snapshot().await?;
        if !green.has_own_table(&mut tx, "run").await.during(green, what)? {
            return Ok(LastRun::default());
        }
        let sql = fill(include_str!("../../sql/verify/latest_run.sql"), &[("work", &work)]);
        let Some(row) = query(sql).fetch_optional(&mut *tx).await.during(green, what)? else {
            return Ok(LastRun::default());
        };
        let id: String = row.try_get("run").during(green, what)?;
        let tables: Option<Shown> = row.try_get("tables").during(green, what)?;
        let mut run = LastRun { moved: moved(tables.as_ref()), ..LastRun::default() };
        let sql =
            fill("select table_name, key from {work}.reject where run_id = $1::uuid", &[("work", &work)]);
        let rejects = query(sql).bind(&id).fetch_all(&mut *tx).await.during(green, what)?;
        for reject in rejects {
            let table: String = reject.try_get("table_name").during(green, what)?;
            let key: Shown = reject.try_get("key").during(green, what)?;
            run.rejected.entry(table).or_default().insert(spelled(&key));
        }
        run.definitions = Definitions::recorded(&mut tx, &work, &id).await.during(green, what)?;
        run.id = Some(id);
        tx.rollback().await.during(green, what)?;
        Ok(run)
    }
}

impl LastRun {
    /// The user's choice of tables, with those that moved on request.
    pub fn with_moved(&self, choices: &TableChoices) -> TableChoices {
        let mut choices = choices.clone();
        choices.include.extend(self.moved.iter().cloned());
        choices
    }
}

fn moved(tables: Option<&Shown>) -> BTreeSet<String> {
    let count = |table: &Shown, class: &str| table.get(class).and_then(Shown::as_u64).unwrap_or(0);
    let some = |table: &&Shown| count(table, "applied") + count(table, "repaired") > 0;
    let name = |table: &Shown| table.get("table").and_then(Shown::as_str).map(str::to_owned);
    tables.and_then(Shown::as_array).into_iter().flatten().filter(some).filter_map(name).collect()
}
