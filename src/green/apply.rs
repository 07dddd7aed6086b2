//! The one transaction that merges the stage into Kong's tables: a reader sees green before or after it, never between.
//!
//! Parents are inserted before children. Kong's own constraints have the last word (in a large first load they are
//! restored over the loaded rows, [`bulk_load`](super::bulk_load)), and every definition in Kong's schema is compared
//! before the commit.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::apply_context::ApplyContext;
use super::bootstrap::BootstrapRows;
use super::bulk_load::BulkLoad;
use super::cycles;
use super::default_workspace::DefaultWorkspace;
use super::definitions::Definitions;
use super::ledger;
use super::merge::Merge;
use super::rows::{AppliedTable, ExistingRows, insert_rows};
use super::session::During;
use super::tags::compare_tags;
use super::unexplained;
use crate::error::{Error, Result};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

#[derive(Debug, Clone, Copy)]
pub struct Apply<'a> {
    /// With a filled and checked stage. The ledger is updated in the same transaction.
    pub context: ApplyContext<'a>,
    /// Whether indexes and constraints may be dropped meanwhile: green is not in use, and there are many rows.
    pub bulk_load: bool,
    /// In an incremental run, what is deleted and what was changed locally.
    pub merge: Option<Merge<'a>>,
}

/// The state before rows are written, which is compared or adapted after it.
struct Before {
    definitions: Definitions,
    workspace: Option<DefaultWorkspace>,
}

impl Apply<'_> {
    /// Merges and compares; the caller commits. `progress` is called with each table and the number of its rows.
    pub async fn run(
        &self,
        tx: &mut PgConnection,
        progress: impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        match &self.merge {
            Some(merge) => self.run_incremental(tx, merge, progress).await,
            None => self.run_first(tx, progress).await,
        }
    }

    async fn run_first(
        &self,
        tx: &mut PgConnection,
        progress: impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let context = &self.context;
        context.lock_tables(tx).await?;
        context.stage.check_epoch(tx).await?;
        let found = unexplained::find(context, tx).await?;
        if !found.is_empty() {
            return Err(unexplained::not_empty(&found));
        }
        let before = self.before(tx).await?;
        let replaced = BootstrapRows(*context).replace_all(tx).await;
        replaced.map_err(|e| self.bootstrap_rows_referenced(e))?;
        let applied = match self.bulk_load(tx).await? {
            Some(load) => {
                let insert = Box::pin(self.insert_by_bulk_load(tx, load, &progress));
                let build = ledger::build_concurrently(context.stage, context.plan);
                let (applied, ()) = tokio::try_join!(insert, build)?;
                self.attach_ledgers(tx).await?;
                applied
            }
            None => {
                let applied = Box::pin(self.insert_in_place(tx, &progress)).await?;
                self.create_ledgers(tx).await?;
                applied
            }
        };
        self.finish(tx, before, None).await?;
        Ok(applied)
    }

    /// Writes only rows that differ, and locks only those.
    async fn run_incremental(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
        progress: impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let context = &self.context;
        context.stage.check_epoch(tx).await?;
        let changed = merge.lock(tx).await?;
        // Counted before anything is written: replacing bootstrap rows and freeing unique values are updates too.
        let forecast = merge.forecast(tx).await?;
        let before = self.before(tx).await?;
        let mut references = cycles::references(context.plan, context.catalog);
        references.retain(|(table, _)| changed.contains(table));
        let deferred = cycles::defer(tx, context.stage, references).await?;
        let applied = merge.run(tx, &changed, &forecast, &progress).await?;
        cycles::check(tx, context.stage, deferred).await?;
        self.finish(tx, before, Some((merge, &changed))).await?;
        Ok(applied)
    }

    async fn before(&self, tx: &mut PgConnection) -> Result<Before> {
        let green = self.context.green();
        let definitions = Definitions::read(tx, green.kong_schema()).await?;
        let workspace = DefaultWorkspace::read(&self.context, tx).await;
        let workspace = workspace.during(green, "cannot read the default workspace on green")?;
        Ok(Before { definitions, workspace })
    }

    async fn finish(
        &self,
        tx: &mut PgConnection,
        before: Before,
        changed: Option<(&Merge<'_>, &BTreeSet<String>)>,
    ) -> Result<()> {
        let (context, green) = (&self.context, self.context.green());
        context.ledger.insert_writer(green, tx, context.stage.run()).await?;
        let updated = match &before.workspace {
            Some(workspace) => workspace.update_defaults(context, tx).await?,
            None => BTreeSet::new(),
        };
        compare_tags(context, tx, changed).await?;
        let after = Definitions::read(tx, green.kong_schema()).await?;
        before.definitions.check_unchanged(&after, &updated)
    }

    /// Inserts rows with every index, reference and trigger in place.
    async fn insert_in_place(
        &self,
        tx: &mut PgConnection,
        progress: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let (plan, stage) = (self.context.plan, self.context.stage);
        let deferred = cycles::defer(tx, stage, cycles::references(plan, self.context.catalog)).await?;
        let applied = self.insert_tables(tx, |_| ExistingRows::Possible, progress).await?;
        cycles::check(tx, stage, deferred).await?;
        Ok(applied)
    }

    /// Inserts rows while indexes, references and triggers are dropped.
    async fn insert_by_bulk_load(
        &self,
        tx: &mut PgConnection,
        load: BulkLoad<'_>,
        progress: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let dropped = load.drop_indexes(tx).await?;
        let existing = |table: &TablePlan| {
            if load.must_be_empty(table) { ExistingRows::None } else { ExistingRows::Possible }
        };
        let applied = self.insert_tables(tx, existing, progress).await?;
        load.fill_tags(tx, |table| applied.get(table).is_some_and(|table| table.written > 0)).await?;
        load.restore_indexes(tx, dropped).await?;
        Ok(applied)
    }

    async fn insert_tables(
        &self,
        tx: &mut PgConnection,
        existing: impl Fn(&TablePlan) -> ExistingRows,
        progress: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let context = &self.context;
        let mut applied = BTreeMap::new();
        for table in &context.plan.moved {
            let counts = insert_rows(context, tx, table, existing(table)).await;
            let counts = counts.map_err(|e| context.refused_by_green(e, table))?;
            progress(&table.table, counts.applied);
            applied.insert(table.table.clone(), counts);
        }
        Ok(applied)
    }

    /// The ledgers of a first run: every row that is on green now, inserted set by set.
    async fn create_ledgers(&self, tx: &mut PgConnection) -> Result<()> {
        let (context, green) = (&self.context, self.context.green());
        for table in context.plan.moved.iter().filter(|table| !table.key.is_empty()) {
            let action = format!("cannot write the ledger of \"{}\"", table.table);
            let reads_green = table.expiry.is_some() || table.writer == Writer::Traffic;
            context.ledger.create(green, tx, table).await.during(green, &action)?;
            ledger::insert(context.stage, tx, table, reads_green).await.during(green, &action)?;
            ledger::add_primary_key(green, tx, table).await.during(green, &action)?;
        }
        Ok(())
    }

    /// The same, where the ledgers were built concurrently: in a bulk load green has no row in the place of a staged one.
    async fn attach_ledgers(&self, tx: &mut PgConnection) -> Result<()> {
        let (context, green) = (&self.context, self.context.green());
        for table in context.plan.moved.iter().filter(|table| !table.key.is_empty()) {
            let action = format!("cannot attach the ledger of \"{}\"", table.table);
            context.ledger.attach(green, tx, table).await.during(green, &action)?;
        }
        Ok(())
    }

    /// The bulk load, where it is allowed and nothing rules it out.
    async fn bulk_load(&self, tx: &mut PgConnection) -> Result<Option<BulkLoad<'_>>> {
        if !self.bulk_load {
            return Ok(None);
        }
        let load = BulkLoad { context: self.context };
        match load.obstacle(tx).await? {
            None => Ok(Some(load)),
            Some(obstacle) => {
                tracing::warn!(
                    "Rows are inserted with all indexes and triggers in place, which takes longer: {obstacle}."
                );
                Ok(None)
            }
        }
    }

    /// Rows of green's bootstrap refer to each other; they can be replaced only together.
    fn bootstrap_rows_referenced(&self, error: sqlx::Error) -> Error {
        let database = error.as_database_error();
        let table = database.filter(|e| e.is_foreign_key_violation()).and_then(|e| e.table());
        let Some(table) = table.map(str::to_owned) else {
            return self.context.explain(error, "cannot replace the rows of green's bootstrap");
        };
        Error::refused(format!(
            "rows of green's bootstrap cannot be replaced by blue's: rows of \"{table}\", which is not moved, refer to \
             them; nothing was applied"
        ))
        .source(error)
        .remedy(format!("Move \"{table}\" too, or delete those rows on green, and run the command again."))
    }
}
