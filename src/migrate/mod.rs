//! A run from end to end: inspect, stage, check, ask, apply. `plan` is the same run against a scratch server.
//!
//! Where an earlier run left its ledger on green, blue is compared with it first, and only what differs is staged,
//! checked and applied.

mod apply;
mod batch;
mod convert;
pub mod destination;
pub mod drift;
pub mod faults;
pub mod fingerprints;
pub mod incremental;
pub mod interrupted;
pub mod load;
pub mod loaded;
mod next_steps;
pub mod rejects;
pub mod report;
pub mod row_filter;
pub mod summary;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::failpoints;
use crate::green::apply_context::ApplyContext;
use crate::green::bootstrap::BootstrapRows;
use crate::green::checks::{CheckCounts, Checks};
use crate::green::deletions::{Deletions, blocked};
use crate::green::journal::{self, AcceptedReject, Journal, RunEntry};
use crate::green::ledger::{Ledger, LocalChanges};
use crate::green::merge::{self, Forecast, ManualChanges, Merge, changed_manually};
use crate::green::rows::AppliedTable;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::stage::Stage;
use crate::green::unexplained;
use crate::inspect::{InspectOptions, Inspection};
use crate::mapping::schema_map::Writer;
use crate::progress::{Observer, ProgressPhase};
use crate::secrets::Redaction;

use destination::Destination;
use incremental::{Comparison, LedgerComparer};
use load::Loader;
use loaded::LoadedTable;
use rejects::{AcceptedRejects, RejectsFile, RejectsSummary};
use report::{MigrationReport, PhaseSeconds, Refusal, RowGroup, RunOutcome};
use row_filter::RowFilter;
use summary::{RejectsAndRepairs, ReportBuilder};

#[derive(Debug, Clone, Default)]
pub struct MigrateOptions {
    /// The run's id, in the journal and in the report. Whoever gives it can tidy up after an interruption.
    pub run: Uuid,
    /// About tables, maps and other sessions.
    pub inspect: InspectOptions,
    /// With which rejects it may apply.
    pub accept: AcceptedRejects,
    /// By default a file in the working directory, named after the run.
    pub rejects_file: Option<PathBuf>,
    /// Write secrets into that file, not their digests.
    pub show_secrets: bool,
    /// The rehearsal of `plan`: everything is applied to a scratch server, whatever was rejected.
    pub rehearsal: bool,
    /// Overwrite rows that were changed on green outside kongferry.
    pub replace: bool,
}

/// What a run has read and found of the rows.
struct RunState {
    ledger: Ledger,
    /// What differs from what earlier runs wrote; nothing in a first run.
    comparison: Option<Comparison>,
    loaded: Vec<LoadedTable>,
    checked: BTreeMap<String, CheckCounts>,
    forecast: Option<BTreeMap<String, Forecast>>,
    manual_changes: Vec<ManualChanges>,
    accepted_rejects: Vec<AcceptedReject>,
}

impl RunState {
    /// Whether there is nothing to check and to apply: then nothing is staged, and the tables of deletions do not exist.
    fn is_unchanged(&self) -> bool {
        self.comparison.as_ref().is_some_and(Comparison::is_empty)
    }
}

/// Asks the operator, with the counts, before Kong's tables are written; `false` ends the run.
pub type Confirm<'a> = &'a (dyn Fn(&MigrationReport) -> BoxFuture<'static, Result<bool>> + Send + Sync);

/// One run, and what it has found so far.
struct MigrationRun<'a> {
    id: Uuid,
    blue: Arc<Blue>,
    green: &'a Green,
    options: &'a MigrateOptions,
    observer: Arc<dyn Observer>,
    inspection: Inspection,
    started: Instant,
    seconds: PhaseSeconds,
}

/// Migrates blue's keyspace to green. An `Err` means that green is unchanged.
pub async fn run(
    blue: Arc<Blue>,
    green: &Green,
    inspection: Inspection,
    options: &MigrateOptions,
    observer: Arc<dyn Observer>,
    confirm: Confirm<'_>,
) -> Result<MigrationReport> {
    if !options.rehearsal {
        inspection.refusal()?;
    }
    let id = options.run;
    let mut file = create_file(options, id)?;
    file.hide_secrets_of(&inspection.blue.map);
    let mut run = MigrationRun {
        id,
        blue,
        green,
        options,
        observer,
        inspection,
        started: Instant::now(),
        seconds: PhaseSeconds::default(),
    };
    let result = run.execute(&mut file, confirm).await;
    run.observer.finish();
    file.close();
    result.map_err(faults::with_remedy)
}

fn create_file(options: &MigrateOptions, id: Uuid) -> Result<RejectsFile> {
    let redaction = Redaction::new(options.show_secrets);
    match &options.rejects_file {
        Some(path) => RejectsFile::create(path, redaction),
        None if options.rehearsal => RejectsFile::create(std::path::Path::new("/dev/null"), redaction),
        None => {
            let path = PathBuf::from(format!("kongferry-rejects-{id}.jsonl"));
            let mut file = RejectsFile::create(&path, redaction)?;
            file.remove_if_empty = true;
            Ok(file)
        }
    }
}

impl MigrationRun<'_> {
    async fn execute(&mut self, file: &mut RejectsFile, confirm: Confirm<'_>) -> Result<MigrationReport> {
        failpoints::reached("inspected").await;
        let entry = RunEntry {
            run: self.id,
            cluster: self.blue.cluster_name().to_owned(),
            keyspace: self.blue.keyspace().to_owned(),
            map_digest: self.inspection.blue.map.fingerprint(),
        };
        let mut journal = Journal::open(self.green, &entry).await?;
        let result = self.execute_journaled(&mut journal, file, confirm).await;
        self.clean_up(journal, &result).await;
        result
    }

    /// Removes the stage and lets the next run in. Nothing that fails here changes what became of Kong's tables, so none
    /// of it may take the place of the result; the next run tidies up before it begins.
    async fn clean_up(&self, journal: Journal, result: &Result<MigrationReport>) {
        let state = match result {
            Ok(report) if report.outcome == RunOutcome::Refused => Some("refused"),
            Ok(_) => None,
            Err(_) => Some("failed"),
        };
        let dropped = Stage::new(self.green, self.id).drop_tables().await;
        let noted = match state {
            Some(state) => journal.note(state).await,
            None => Ok(()),
        };
        let closed = journal.close().await;
        for error in [dropped, noted, closed].into_iter().filter_map(Result::err) {
            if result.is_ok() {
                tracing::warn!("{error}; the next run removes the remaining tables of kongferry's schema.");
            } else {
                tracing::debug!(%error, "Not everything could be tidied up.");
            }
        }
    }

    async fn execute_journaled(
        &mut self,
        journal: &mut Journal,
        file: &mut RejectsFile,
        confirm: Confirm<'_>,
    ) -> Result<MigrationReport> {
        let stage = Stage::create(self.green, self.id, &self.inspection.plan).await?;
        let mut state = self.read_blue(&stage).await?;
        journal.note("staged").await?;
        failpoints::reached("staged").await;
        self.check(&stage, &mut state).await?;
        failpoints::reached("checked").await;
        file.accept_again(&state.accepted_rejects);
        let rejects = self.write_rejects(&stage, file).await?;
        let refusal = self.refusal(&stage, &mut state, &rejects).await?;
        let mut report = self.report(&stage, &state, None).await?;
        report.rejects_file = self.reported_file(file, &rejects);
        if let Some(refusal) = refusal {
            report.outcome = RunOutcome::Refused;
            report.refusal = Some(refusal);
            report.next = next_steps::steps(&report);
            return Ok(report);
        }
        let is_unaffected =
            |forecasts: &BTreeMap<_, Forecast>| forecasts.values().all(|forecast| forecast.affected == 0);
        if state.forecast.as_ref().is_some_and(is_unaffected) {
            self.record_unchanged(&stage, journal, &mut report).await?;
        } else {
            self.ask_for_confirmation(confirm, &report).await?;
            let rejects_file = report.rejects_file.take();
            report = self.apply(&stage, journal, &state).await?;
            report.rejects_file = rejects_file;
        }
        if let Err(error) = journal.seconds(&serde_json::to_value(report.seconds).unwrap_or_default()).await {
            tracing::warn!("{error}.");
        }
        report.next = next_steps::steps(&report);
        Ok(report)
    }

    async fn ask_for_confirmation(&mut self, confirm: Confirm<'_>, report: &MigrationReport) -> Result<()> {
        self.observer.finish();
        let asked = Instant::now();
        let confirmed = confirm(report).await?;
        // The time until the operator answers does not count.
        self.started += asked.elapsed();
        if confirmed {
            return Ok(());
        }
        Err(Error::new(Kind::Interrupted, "not applied: the operator did not answer yes; green is unchanged"))
    }

    /// Nothing differs: only the journal is written. The epoch tells an empty stage from one that a crash has emptied.
    async fn record_unchanged(
        &mut self,
        stage: &Stage,
        journal: &mut Journal,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let tables = serde_json::to_value(&report.tables).unwrap_or_default();
        let record = self.green.write("cannot record the run in the journal", async |tx| {
            stage.check_epoch(tx).await?;
            journal.keep_rejects(tx).await?;
            Ok(journal.state(tx, "applied", Some(&tables)).await?)
        });
        record.await?;
        self.seconds.total = self.started.elapsed().as_secs_f64();
        report.seconds = self.seconds;
        Ok(())
    }

    async fn read_blue(&mut self, stage: &Stage) -> Result<RunState> {
        let began = Instant::now();
        let plan = &self.inspection.plan;
        let mut state = RunState {
            ledger: Ledger::read(self.green, plan).await?,
            comparison: None,
            loaded: Vec::new(),
            checked: BTreeMap::new(),
            forecast: None,
            manual_changes: Vec::new(),
            accepted_rejects: journal::accepted_rejects(self.green).await?,
        };
        if state.ledger.is_empty() && !self.options.replace {
            state.loaded = self.stage_rows(stage, Vec::new()).await?;
        } else {
            self.compare(stage, &mut state).await?;
        }
        self.check_blue_schema().await?;
        if !state.is_unchanged() {
            stage.analyze(plan).await?;
        }
        self.seconds.stage = began.elapsed().as_secs_f64();
        Ok(state)
    }

    /// A column that was added while rows were read would be missing without notice.
    async fn check_blue_schema(&self) -> Result<()> {
        let now = self.blue.catalog().await?;
        if now == self.inspection.blue.catalog {
            return Ok(());
        }
        Err(Error::refused(
            "the definition of blue's tables changed while they were read; green is unchanged",
        )
        .remedy(
            "Do not run Kong's migrations or change the keyspace during a run, and run the command again.",
        ))
    }

    async fn stage_rows(&self, stage: &Stage, filters: Vec<RowFilter>) -> Result<Vec<LoadedTable>> {
        self.observer.begin_phase(ProgressPhase::Staging, self.inspection.plan.moved.len());
        let destination = Destination::Stage(Box::new(stage.clone()));
        let loader = Loader::new(&self.blue, &self.inspection, destination, &self.observer);
        Arc::new(loader.with_filters(filters)).run().await
    }

    /// Compares with what earlier runs wrote, and stages what differs.
    async fn compare(&self, stage: &Stage, state: &mut RunState) -> Result<()> {
        let plan = &self.inspection.plan;
        self.check_keys_on_green(stage, state).await?;
        state.ledger.create_missing(self.green, plan).await?;
        let comparer = LedgerComparer {
            blue: &self.blue,
            green: self.green,
            inspection: &self.inspection,
            ledger: &state.ledger,
            observer: &self.observer,
            replace: self.options.replace,
            accepted_rejects: &state.accepted_rejects,
        };
        let mut comparison = comparer.run(Some(stage)).await?;
        let filters = comparison.filters(plan);
        let second = self.stage_rows(stage, filters).await?;
        comparison.add_second_scan(plan, second);
        state.loaded = std::mem::take(&mut comparison.loaded);
        if comparison.is_empty() {
            state.comparison = Some(comparison);
            return Ok(());
        }
        let context = self.apply_context(stage, &state.ledger);
        let deletions = Deletions(context);
        deletions.create().await?;
        comparison.record(&deletions, &state.ledger, self.green).await?;
        for table in plan.moved.iter().filter(|table| table.writer == Writer::Admin && !table.key.is_empty())
        {
            let untouched = comparison.local_changes.get(&table.table).is_none_or(LocalChanges::is_empty);
            if let (false, Some(is_replaced)) = (untouched, BootstrapRows(context).is_deleted(table)) {
                deletions.replace(table, &is_replaced).await?;
            }
        }
        state.comparison = Some(comparison);
        Ok(())
    }

    /// Checked before blue is read, which may take long.
    async fn check_keys_on_green(&self, stage: &Stage, state: &RunState) -> Result<()> {
        let context = self.apply_context(stage, &state.ledger);
        let read = self.green.read("cannot read green's tables", async |tx| {
            Ok(merge::missing_primary_key(&context, tx).await?)
        });
        read.await?.map_or(Ok(()), Err)
    }

    async fn check(&mut self, stage: &Stage, state: &mut RunState) -> Result<()> {
        if state.is_unchanged() {
            return Ok(());
        }
        let began = Instant::now();
        let plan = &self.inspection.plan;
        self.observer.begin_phase(ProgressPhase::Checking, plan.moved.len());
        let checks = Checks {
            context: self.apply_context(stage, &state.ledger),
            incremental: state.comparison.is_some(),
        };
        let checked = checks.run(self.options.accept.keep(), |table| self.observer.table_done(table)).await?;
        state.checked = checked;
        self.seconds.check = began.elapsed().as_secs_f64();
        Ok(())
    }

    async fn write_rejects(&self, stage: &Stage, file: &mut RejectsFile) -> Result<RejectsSummary> {
        let write = self.green.read("cannot read the rejected rows", async |tx| {
            Ok(file.write(stage, tx, &self.options.accept).await?)
        });
        write.await
    }

    fn reported_file(&self, file: &RejectsFile, rejects: &RejectsSummary) -> Option<String> {
        let asked = self.options.rejects_file.is_some();
        (asked || (rejects.lines > 0 && !self.options.rehearsal)).then(|| file.path().display().to_string())
    }

    /// What stops the run now that every row is known.
    async fn refusal(
        &self,
        stage: &Stage,
        state: &mut RunState,
        rejects: &RejectsSummary,
    ) -> Result<Option<Refusal>> {
        let mut tx = self.green.begin().await?;
        let found = self.unexplained(&mut tx, stage, state).await;
        tx.rollback().await.during(self.green, "cannot read the rows that green has")?;
        if !self.options.rehearsal && rejects.not_accepted > 0 {
            return Ok(Some(rejects.refusal(&self.options.accept)));
        }
        Ok(found?.map(|error| Refusal::from(&error)))
    }

    /// Rows of green that have no known origin; also computes what would be written.
    async fn unexplained(
        &self,
        tx: &mut sqlx::PgConnection,
        stage: &Stage,
        state: &mut RunState,
    ) -> Result<Option<Error>> {
        let context = self.apply_context(stage, &state.ledger);
        let Some(comparison) = &state.comparison else {
            let found = unexplained::find(&context, tx).await?;
            return Ok((!found.is_empty()).then(|| unexplained::not_empty(&found)));
        };
        if state.is_unchanged() {
            let keyed = self.inspection.plan.moved.iter().filter(|table| !table.key.is_empty());
            state.forecast = Some(keyed.map(|table| (table.table.clone(), Forecast::default())).collect());
            return Ok(None);
        }
        let merge = self.merge(context, comparison);
        let manual_changes = merge.manual_changes(tx).await?;
        let blocking = Deletions(context).cascade(tx, false).await?;
        let without_key = merge::missing_primary_key(&context, tx).await?;
        let forecast = merge.forecast(tx).await?;
        state.forecast = Some(forecast);
        state.manual_changes = manual_changes;
        if let Some(error) = without_key {
            return Ok(Some(error));
        }
        if !self.options.replace && !state.manual_changes.is_empty() {
            return Ok(Some(changed_manually(&state.manual_changes)));
        }
        Ok((!blocking.is_empty()).then(|| blocked(&blocking)))
    }

    fn merge<'s>(&self, context: ApplyContext<'s>, comparison: &'s Comparison) -> Merge<'s> {
        let online = self.options.inspect.green_online;
        Merge { context, local_changes: &comparison.local_changes, changed_rows: comparison, online }
    }

    fn apply_context<'s>(&'s self, stage: &'s Stage, ledger: &'s Ledger) -> ApplyContext<'s> {
        ApplyContext {
            stage,
            plan: &self.inspection.plan,
            catalog: &self.inspection.green.catalog,
            map: &self.inspection.blue.map,
            baseline: self.options.inspect.baseline.as_ref(),
            ledger,
            replace: self.options.replace,
        }
    }

    async fn report(
        &self,
        stage: &Stage,
        state: &RunState,
        applied: Option<&BTreeMap<String, AppliedTable>>,
    ) -> Result<MigrationReport> {
        let mut seconds = self.seconds;
        seconds.total = self.started.elapsed().as_secs_f64();
        let outcome = if self.options.rehearsal { RunOutcome::Rehearsed } else { RunOutcome::Applied };
        let found = RejectsAndRepairs::read(stage).await?;
        let builder = ReportBuilder {
            id: self.id,
            blue: &self.blue,
            green: self.green,
            inspection: &self.inspection,
            seconds,
            outcome,
            forecast: state.forecast.as_ref(),
        };
        let mut report = builder.report(&state.loaded, &state.checked, applied, found);
        report.manual_changes = state.manual_changes.iter().map(manual_change_group).collect();
        Ok(report)
    }
}

fn manual_change_group(found: &ManualChanges) -> RowGroup {
    RowGroup {
        table: found.table.clone(),
        column: None,
        reason: found.change.clone(),
        rows: found.rows,
        examples: found.keys.iter().map(|key| serde_json::from_str(key).unwrap_or_default()).collect(),
    }
}
