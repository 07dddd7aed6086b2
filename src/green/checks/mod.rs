//! What Kong's tables would refuse, found set by set in the stage before anything is applied.
//!
//! First what a table's rows show by themselves (`itself`, after one `glance` at all of them), then `references`, parents
//! before children, so that a child of a rejected parent carries its parent's key as the cause. The statements are in
//! `sql/checks/`; everything they need to know of Kong comes from green's catalog.

mod check_sql;
pub(crate) mod prescan;
mod references;
mod single_table;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::deletions::Deletions;
use super::sql::{fill, literal};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::catalog::green::GreenCatalog;
use crate::error::Result;
use crate::mapping::schema_map::Names;
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// Everything the checks look at.
#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    /// The filled stage.
    pub stage: &'a Stage,
    /// What was staged.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// The names that the whole line shares.
    pub names: &'a Names,
    /// What leaves green, in an incremental run: then rows of green that stay are parents and neighbours too.
    pub gone: Option<Deletions<'a>>,
}

/// What the checks did to one table's stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows whose time ran out since they were read.
    pub expired: u64,
    /// Rows that were staged because they hang on rows that leave green.
    pub pulled_in: u64,
}

/// Tables that are looked at by themselves at the same time.
const TABLES_AT_ONCE: usize = 4;

/// What one step of one check may use to sort and hash, where green is not more generous by itself.
const WORK_MEM: &str = "32MB";

/// A member of a group of duplicates that is let go: its table and key.
pub type Kept = (String, serde_json::Value);

impl Checks<'_> {
    /// Runs all checks; says what became of each table. `seen` is told each table before its checks begin.
    pub async fn run(&self, keep: &[Kept], seen: impl Fn(&str)) -> Result<BTreeMap<String, Checked>> {
        self.load_keep(keep).await?;
        let filled = self.filled().await?;
        let alone = stream::iter(&self.plan.moved).map(async |plan| {
            seen(&plan.table);
            let expired = if filled.contains(&plan.table) { self.table_by_itself(plan).await? } else { 0 };
            Ok::<_, crate::error::Error>((plan.table.clone(), Checked { expired, ..Checked::default() }))
        });
        let mut checked: BTreeMap<String, Checked> =
            alone.buffer_unordered(TABLES_AT_ONCE).try_collect().await?;
        while self.references(&filled, &seen, &mut checked).await? {}
        Ok(checked)
    }

    /// The tables of which there are rows: most of Kong's tables are empty, and no check of them finds anything. In an
    /// incremental run a table may be filled while others are checked.
    async fn filled(&self) -> Result<BTreeSet<String>> {
        if self.gone.is_some() || self.plan.moved.is_empty() {
            return Ok(self.plan.moved.iter().map(|plan| plan.table.clone()).collect());
        }
        let green = self.stage.green();
        let one = |plan: &TablePlan| {
            format!(
                "select {} where exists (select from {})",
                literal(&plan.table),
                self.stage.table(&plan.table)
            )
        };
        let all: Vec<String> = self.plan.moved.iter().map(one).collect();
        let sql = sqlx::AssertSqlSafe(all.join(" union all "));
        let filled = green.read("cannot list the staging tables that have rows", async |tx| {
            Ok(query_scalar::<String>(sql).fetch_all(tx).await?)
        });
        Ok(filled.await?.into_iter().collect())
    }

    async fn load_keep(&self, keep: &[Kept]) -> Result<()> {
        if keep.is_empty() {
            return Ok(());
        }
        let sql = fill(
            "insert into {keep} select * from unnest($1::text[], $2::jsonb[])",
            &[("keep", &self.stage.own("stage_keep"))],
        );
        let tables: Vec<&str> = keep.iter().map(|(table, _)| table.as_str()).collect();
        let keys: Vec<&serde_json::Value> = keep.iter().map(|(_, key)| key).collect();
        let query = super::statement::query(sql).bind(tables).bind(keys);
        let load = self.stage.green().write("cannot load the reviewed rejects file", async |tx| {
            query.execute(tx).await?;
            Ok(())
        });
        load.await
    }

    async fn table_by_itself(&self, plan: &TablePlan) -> Result<u64> {
        let Some(table) = self.catalog.tables.get(&plan.table) else { return Ok(0) };
        let action = format!("cannot check the stage of \"{}\"", plan.table);
        let green = self.stage.green();
        let check = green.write(&action, async |tx| {
            green.at_least(tx, "work_mem", WORK_MEM).await?;
            Ok(self.alone(tx, plan, table).await?)
        });
        check.await
    }
}
