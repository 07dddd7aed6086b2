//! `verify --repair`: repairs the differences that a comparison found, and compares again.
//!
//! Of the comparison a repair takes the keys only. The rows themselves go through stage, checks and apply as in a run of
//! `migrate`, so the second comparison judges a repair as the first one judges a run.

mod selection;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::failpoints;
use crate::green::apply_context::ApplyContext;
use crate::green::checks::Checks;
use crate::green::journal::{Journal, RunEntry};
use crate::green::ledger::Ledger;
use crate::green::row_repair::{RepairedRows, RowRepair, SelectedKeys, UnrepairableRow};
use crate::green::session::Green;
use crate::green::stage::Stage;
use crate::inspect::{InspectOptions, Inspection};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;
use crate::migrate::destination::Destination;
use crate::migrate::load::Loader;
use crate::progress::{Observer, ProgressPhase};
use crate::verify;
use crate::verify::differences::DifferenceLog;
use crate::verify::last_run::LastRun;
use crate::verify::options::VerifyOptions;
use crate::verify::report::{RowCounts, TrafficDifferences, VerifyReport, VerifyTableReport, sum};

use selection::{MAX_ROWS, Selection};

/// Rows that cannot be repaired and that the report lists.
const LISTED: usize = 10;

#[derive(Debug, Clone, Default)]
pub(crate) struct RepairOptions {
    pub(crate) verify: VerifyOptions,
    /// Whether rows that blue lacks are deleted.
    pub(crate) delete_extra: bool,
    /// The repair's id in the journal, known beforehand so that an interrupted repair can be cleaned up.
    pub(crate) run: Uuid,
}

/// What a repair is about to do, or did.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct RepairReport {
    /// The number of rows that take blue's values, by table.
    pub(crate) write: BTreeMap<String, u64>,
    /// The number of rows that are deleted, by table.
    pub(crate) remove: BTreeMap<String, u64>,
    pub(crate) written: u64,
    pub(crate) removed: u64,
    /// Corrected rows of Kong's table of tags.
    pub(crate) tags: u64,
    /// Rows that the checks reject, or that blue no longer has.
    pub(crate) not_repaired: u64,
    pub(crate) left: Vec<UnrepairableRow>,
    /// The sums before the repair.
    pub(crate) before: RowCounts,
    /// The same of tables that the data plane writes.
    pub(crate) traffic_before: TrafficDifferences,
    /// Wall time of the repair alone.
    pub(crate) seconds: f64,
}

/// The comparison after a repair, and the repair.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RepairedReport {
    #[serde(flatten)]
    pub(crate) comparison: VerifyReport,
    pub(crate) repair: RepairReport,
}

/// Asks the operator, who is shown the differences and what the repair would do; `false` cancels it.
pub(crate) type ConfirmRepair<'a> =
    &'a (dyn Fn(&VerifyReport, &RepairReport) -> BoxFuture<'static, Result<bool>> + Send + Sync);

/// Compares, repairs, and compares the repaired tables again.
pub(crate) async fn run(
    blue: Arc<Blue>,
    green: &Green,
    options: &RepairOptions,
    observer: Arc<dyn Observer>,
    confirm: ConfirmRepair<'_>,
) -> Result<RepairedReport> {
    let mut differences =
        DifferenceLog::create(options.verify.findings.as_deref(), options.verify.show_secrets)?;
    let result = compare_and_repair(blue, green, options, observer.clone(), confirm, &mut differences).await;
    observer.finish();
    differences.close()?;
    result
}

async fn compare_and_repair(
    blue: Arc<Blue>,
    green: &Green,
    options: &RepairOptions,
    observer: Arc<dyn Observer>,
    confirm: ConfirmRepair<'_>,
    differences: &mut DifferenceLog,
) -> Result<RepairedReport> {
    let began = Instant::now();
    let selected = Arc::new(Mutex::new(Selection::default()));
    let selection = selected.clone();
    differences.listen(Box::new(move |difference| {
        selection.lock().unwrap_or_else(PoisonError::into_inner).add(difference);
    }));
    let first =
        Box::pin(verify::compare(blue.clone(), green, &options.verify, observer.clone(), differences))
            .await?;
    observer.finish();
    let selection = std::mem::take(&mut *selected.lock().unwrap_or_else(PoisonError::into_inner));
    let selection = restrict(selection, &first, options)?;
    let before =
        RepairReport { before: first.summary, traffic_before: first.traffic, ..RepairReport::default() };
    if selection.is_empty() {
        return Ok(RepairedReport { comparison: first, repair: before });
    }
    let mut choices: InspectOptions = options.verify.choices.clone();
    choices.tables.include.extend(LastRun::read(green).await?.moved);
    let inspection = Box::pin(Inspection::read(&blue, green, &choices)).await?;
    inspection.refusal()?;
    let repair_run = RepairRun {
        blue: blue.clone(),
        green,
        inspection: &inspection,
        selection: &selection,
        options,
        observer: observer.clone(),
    };
    let mut repair = Box::pin(repair_run.journaled(&first, before, confirm)).await?;
    repair.seconds = began.elapsed().as_secs_f64();
    differences.begin_after_repair();
    let again = VerifyOptions { recheck_tables: Some(selection.tables()), ..options.verify.clone() };
    let second = Box::pin(verify::compare(blue, green, &again, observer, differences)).await?;
    let comparison = merge(first, second, began);
    Ok(RepairedReport { comparison, repair })
}

/// The rows that these options allow to repair.
fn restrict(mut selection: Selection, first: &VerifyReport, options: &RepairOptions) -> Result<Selection> {
    if selection.is_too_large() {
        return Err(Error::refused(format!("more than {MAX_ROWS} rows differ: too many for a repair"))
            .remedy("Bootstrap green again and run migrate."));
    }
    if !options.delete_extra {
        selection.delete.clear();
    }
    // What the data plane wrote since the run is no damage unless the operator names the table.
    let is_traffic = |name: &str| {
        let writer = first.tables.iter().find(|table| table.table == name).map(|table| table.writer);
        writer == Some(Writer::Traffic) && !options.verify.only_tables.contains(name)
    };
    selection.remove_tables(is_traffic);
    Ok(selection)
}

/// The first report, with what was compared again in place of what it was before the repair.
fn merge(first: VerifyReport, second: VerifyReport, began: Instant) -> VerifyReport {
    let mut again: BTreeMap<String, VerifyTableReport> =
        second.tables.into_iter().map(|table| (table.table.clone(), table)).collect();
    let tables: Vec<VerifyTableReport> =
        first.tables.into_iter().map(|table| again.remove(&table.table).unwrap_or(table)).collect();
    let (summary, traffic) = sum(&tables);
    VerifyReport {
        clean: summary.is_clean() && second.other_findings == 0,
        summary,
        traffic,
        tables,
        findings: first.findings + second.findings,
        other_findings: second.other_findings,
        definitions: second.definitions,
        first: second.first,
        seconds: began.elapsed().as_secs_f64(),
        ..first
    }
}

struct RepairRun<'a> {
    blue: Arc<Blue>,
    green: &'a Green,
    inspection: &'a Inspection,
    selection: &'a Selection,
    options: &'a RepairOptions,
    observer: Arc<dyn Observer>,
}

impl RepairRun<'_> {
    /// Enters the repair into the journal, whose lock excludes every other run.
    async fn journaled(
        &self,
        first: &VerifyReport,
        before: RepairReport,
        confirm: ConfirmRepair<'_>,
    ) -> Result<RepairReport> {
        let entry = RunEntry {
            run: self.options.run,
            cluster: self.blue.cluster_name().to_owned(),
            keyspace: self.blue.keyspace().to_owned(),
            map_digest: self.inspection.blue.map.fingerprint(),
        };
        let mut journal = Journal::open(self.green, &entry).await?;
        let result = self.staged(&mut journal, first, before, confirm).await;
        let dropped = Stage::new(self.green, self.options.run).drop_tables().await;
        let noted = if result.is_err() { journal.note("failed").await } else { Ok(()) };
        let closed = journal.close().await;
        for error in [dropped, noted, closed].into_iter().filter_map(Result::err) {
            tracing::warn!("{error}; the next run drops the remaining staging tables.");
        }
        result
    }

    async fn staged(
        &self,
        journal: &mut Journal,
        first: &VerifyReport,
        before: RepairReport,
        confirm: ConfirmRepair<'_>,
    ) -> Result<RepairReport> {
        // All of blue is staged: whether a row may be written depends on others, its parents above all.
        let stage = Stage::create(self.green, self.options.run, &self.inspection.plan).await?;
        let ledger = Ledger::read(self.green, &self.inspection.plan).await?;
        let context = self.apply_context(&stage, &ledger);
        self.load(context).await?;
        journal.note("staged").await?;
        let row_repair = RowRepair(context);
        let mut repair = self.select(&row_repair, before).await?;
        self.observer.finish();
        if !confirm(first, &repair).await? {
            return Err(Error::new(
                Kind::Interrupted,
                "not repaired: the operator did not answer yes; green is unchanged",
            ));
        }
        failpoints::reached("staged").await;
        let repaired = self.write(&row_repair, journal).await?;
        (repair.written, repair.removed, repair.tags) = (repaired.written, repaired.removed, repaired.tags);
        Ok(repair)
    }

    async fn load(&self, context: ApplyContext<'_>) -> Result<()> {
        let stage = context.stage;
        let plan = &self.inspection.plan;
        self.observer.begin_phase(ProgressPhase::Staging, plan.moved.len());
        let destination = Destination::Stage(Box::new(stage.clone()));
        let loader = Loader::new(&self.blue, self.inspection, destination, &self.observer);
        Arc::new(loader).run().await?;
        stage.analyze(plan).await?;
        self.observer.begin_phase(ProgressPhase::Checking, plan.moved.len());
        let checks = Checks { context, incremental: false };
        checks.run(&self.keys_on_green(), |table| self.observer.table_done(table)).await.map(|_| ())
    }

    /// The run that wrote a row of green accepted it, even as one of several duplicates.
    fn keys_on_green(&self) -> Vec<(String, Value)> {
        let keys =
            self.selection.write.iter().flat_map(|(table, keys)| keys.values().map(move |key| (table, key)));
        keys.filter(|(_, key)| key.is_on_green).map(|(table, key)| (table.clone(), key.key.clone())).collect()
    }

    fn apply_context<'s>(&'s self, stage: &'s Stage, ledger: &'s Ledger) -> ApplyContext<'s> {
        ApplyContext {
            stage,
            plan: &self.inspection.plan,
            catalog: &self.inspection.green.catalog,
            map: &self.inspection.blue.map,
            baseline: self.options.verify.choices.baseline.as_ref(),
            ledger,
            replace: false,
        }
    }

    /// Selects the rows on green, and counts those that cannot be written.
    async fn select(&self, row_repair: &RowRepair<'_>, mut repair: RepairReport) -> Result<RepairReport> {
        let select = self.green.write("cannot select the rows to repair", async |tx| {
            row_repair.create(tx).await?;
            for (selected, remove) in [(&self.selection.write, false), (&self.selection.delete, true)] {
                for (table, keys) in selected {
                    let keys: Vec<&Value> = keys.values().map(|key| &key.key).collect();
                    row_repair.select(tx, SelectedKeys { table, keys: &keys, remove }).await?;
                }
            }
            for table in self.tables() {
                let left = row_repair.not_repairable(tx, table).await?;
                let selected = self.selection.write.get(&table.table).map_or(0, |keys| keys.len() as u64);
                let repairable = selected.saturating_sub(left.len() as u64);
                if repairable > 0 {
                    repair.write.insert(table.table.clone(), repairable);
                }
                repair.not_repaired += left.len() as u64;
                let unlisted = LISTED.saturating_sub(repair.left.len());
                repair.left.extend(left.into_iter().take(unlisted));
            }
            Ok(())
        });
        select.await?;
        repair.remove =
            self.selection.delete.iter().map(|(table, keys)| (table.clone(), keys.len() as u64)).collect();
        Ok(repair)
    }

    /// The tables with selected rows, parents first.
    fn tables(&self) -> Vec<&TablePlan> {
        let selected = self.selection.tables();
        self.inspection.plan.moved.iter().filter(|table| selected.contains(&table.table)).collect()
    }

    async fn write(&self, row_repair: &RowRepair<'_>, journal: &mut Journal) -> Result<RepairedRows> {
        let tables = self.tables();
        self.observer.begin_phase(ProgressPhase::Applying, tables.len());
        let mut tx = self.green.begin().await?;
        let repaired = row_repair.run(&mut tx, &tables).await?;
        let counts = serde_json::json!({ "written": repaired.written, "removed": repaired.removed });
        journal.state(&mut tx, "repaired", Some(&counts)).await?;
        failpoints::reached("applying").await;
        journal.check_run_lock().await?;
        if let Err(error) = tx.commit().await {
            let error = self.green.explain(error, "cannot repair green");
            if !journal.has_state("repaired", error).await? {
                return Err(Error::new(Kind::Server, "green did not commit the repair; green is unchanged")
                    .remedy("Run the command again."));
            }
        }
        failpoints::reached("applied").await;
        Ok(repaired)
    }
}
