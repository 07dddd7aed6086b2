//! Finds the staged rows that Kong's tables would refuse, set by set, before anything is applied.
//!
//! First the checks of a single table (`single_table`, after one scan in `prescan`), then `references`, parents before
//! children, so that a child of a rejected parent has its parent's key as the cause. The statements are in `sql/checks/`;
//! everything they know of Kong comes from green's catalog.

mod check_sql;
pub(crate) mod prescan;
mod references;
mod single_table;

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt, TryStreamExt, stream};

use super::apply_context::ApplyContext;
use super::deletions::Deletions;
use super::sql::{fill, literal};
use super::statement::query_scalar;
use crate::error::Result;
use crate::mapping::table_plan::TablePlan;

#[derive(Debug, Clone, Copy)]
pub struct Checks<'a> {
    pub context: ApplyContext<'a>,
    /// In an incremental run, which checks rows also against those that remain on green.
    pub incremental: bool,
}

/// What the checks changed in one table's stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Rows that expired since they were read.
    pub expired: u64,
    /// Rows that were staged because they refer to rows that are deleted from green.
    pub dependents: u64,
}

/// Tables that are checked at the same time.
const PARALLEL_TABLES: usize = 4;

/// What one step of one check may use to sort and hash, where green's own setting is lower.
const WORK_MEM: &str = "32MB";

/// A member of a group of duplicates that is kept: its table and key.
pub type KeptDuplicate = (String, serde_json::Value);

impl Checks<'_> {
    /// Runs all checks. `progress` is called with each table before its checks begin.
    pub async fn run(
        &self,
        keep: &[KeptDuplicate],
        progress: impl Fn(&str),
    ) -> Result<BTreeMap<String, CheckCounts>> {
        self.load_keep(keep).await?;
        let filled = self.filled_tables().await?;
        let single_tables = stream::iter(&self.context.plan.moved).map(async |plan| {
            progress(&plan.table);
            let expired = if filled.contains(&plan.table) { self.check_table(plan).await? } else { 0 };
            Ok::<_, crate::error::Error>((plan.table.clone(), CheckCounts { expired, dependents: 0 }))
        });
        let mut counts: BTreeMap<String, CheckCounts> =
            single_tables.buffer_unordered(PARALLEL_TABLES).try_collect().await?;
        while self.check_references(&filled, &progress, &mut counts).await? {}
        Ok(counts)
    }

    /// What is deleted, in an incremental run: then rows that remain on green are parents and duplicates too.
    fn deletions(&self) -> Option<Deletions<'_>> {
        self.incremental.then_some(Deletions(self.context))
    }

    /// The tables with staged rows: most of Kong's tables are empty, and no check of them finds anything. In an
    /// incremental run a table may be filled while others are checked.
    async fn filled_tables(&self) -> Result<BTreeSet<String>> {
        let moved = &self.context.plan.moved;
        if self.incremental || moved.is_empty() {
            return Ok(moved.iter().map(|plan| plan.table.clone()).collect());
        }
        let select = |plan: &TablePlan| {
            format!(
                "select {} where exists (select from {})",
                literal(&plan.table),
                self.context.stage.table(&plan.table)
            )
        };
        let all: Vec<String> = moved.iter().map(select).collect();
        let sql = sqlx::AssertSqlSafe(all.join(" union all "));
        let filled = self.context.green().read("cannot list the staging tables that have rows", async |tx| {
            Ok(query_scalar::<String>(sql).fetch_all(tx).await?)
        });
        Ok(filled.await?.into_iter().collect())
    }

    async fn load_keep(&self, keep: &[KeptDuplicate]) -> Result<()> {
        if keep.is_empty() {
            return Ok(());
        }
        let sql = fill(
            "insert into {keep} select * from unnest($1::text[], $2::jsonb[])",
            &[("keep", &self.context.stage.own("stage_keep"))],
        );
        let tables: Vec<&str> = keep.iter().map(|(table, _)| table.as_str()).collect();
        let keys: Vec<&serde_json::Value> = keep.iter().map(|(_, key)| key).collect();
        let query = super::statement::query(sql).bind(tables).bind(keys);
        let load = self.context.green().write("cannot load the reviewed rejects file", async |tx| {
            query.execute(tx).await?;
            Ok(())
        });
        load.await
    }

    async fn check_table(&self, plan: &TablePlan) -> Result<u64> {
        let Some(table) = self.context.table(&plan.table) else { return Ok(0) };
        let action = format!("cannot check the stage of \"{}\"", plan.table);
        let green = self.context.green();
        let check = green.write(&action, async |tx| {
            green.at_least(tx, "work_mem", WORK_MEM).await?;
            Ok(self.check_rows(tx, plan, table).await?)
        });
        check.await
    }
}
