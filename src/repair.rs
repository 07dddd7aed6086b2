//! `verify --repair`: what a comparison found is mended through stage, check and apply, and looked at again.
//!
//! The comparison says which keys; everything else – what blue holds, whether green would take it – is asked anew by the
//! code that migrates. So the proof stays independent: it judges the repair as it judges a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::error::{Error, Kind, Result};
use crate::failpoints;
use crate::green::apply::Apply;
use crate::green::checks::Checks;
use crate::green::journal::{Journal, RunEntry};
use crate::green::ledger::Ledger;
use crate::green::row_repair::{Keys, Left, Mended, RowRepair};
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::stage::Stage;
use crate::inspect::{Choices, Inspection};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;
use crate::migrate::load::{Loader, Spare, Target};
use crate::migrate::surroundings;
use crate::progress::{Observer, Phase};
use crate::verify;
use crate::verify::findings::Findings;
use crate::verify::journal::LastRun;
use crate::verify::report::{Counts, Report, TableReport, Traffic, sums};
use crate::verify::selection::{MOST, Selection};

/// Rows that cannot be repaired, of which the report shows as many.
const SHOWN: usize = 10;

/// What a repair is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What is compared.
    pub verify: verify::Options,
    /// Whether rows that blue lacks go.
    pub delete_extra: bool,
    /// The repair's id in the journal, known before it begins so that an interrupted one can be tidied up after.
    pub run: Uuid,
}

/// What a repair is about to do, or did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Repair {
    /// Rows that take blue's values, by table; before the question those that are to be written.
    pub write: BTreeMap<String, u64>,
    /// Rows that go, by table.
    pub remove: BTreeMap<String, u64>,
    /// Rows that were written.
    pub written: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// Rows of Kong's table of tags that were put right.
    pub tags: u64,
    /// Rows that cannot be written: rejected by the checks, or gone from blue meanwhile.
    pub not_repaired: u64,
    /// The first of those.
    pub left: Vec<Left>,
    /// The sums before the repair.
    pub before: Counts,
    /// The same of tables that the data plane writes.
    pub traffic_before: Traffic,
    /// Wall time of the repair alone.
    pub seconds: f64,
}

/// Asks a person, with what was found and what would be done; `false` ends it.
pub type Confirm<'a> = &'a (dyn Fn(&Report, &Repair) -> BoxFuture<'static, Result<bool>> + Send + Sync);

/// Compares, repairs, and compares again what was repaired.
pub async fn run(
    blue: Arc<Blue>,
    green: &Green,
    options: &Options,
    observer: Arc<dyn Observer>,
    confirm: Confirm<'_>,
) -> Result<Report> {
    let mut findings = Findings::create(options.verify.findings.as_deref(), options.verify.show_secrets)?;
    let result = go(blue, green, options, observer.clone(), confirm, &mut findings).await;
    observer.finish();
    findings.close()?;
    result
}

async fn go(
    blue: Arc<Blue>,
    green: &Green,
    options: &Options,
    observer: Arc<dyn Observer>,
    confirm: Confirm<'_>,
    findings: &mut Findings,
) -> Result<Report> {
    let began = Instant::now();
    findings.selection = Some(Selection::default());
    let first =
        Box::pin(verify::compare(blue.clone(), green, &options.verify, observer.clone(), findings)).await?;
    observer.finish();
    let selection = selected(findings, &first, options)?;
    let before = Repair { before: first.summary, traffic_before: first.traffic, ..Repair::default() };
    if selection.is_empty() {
        return Ok(Report { repair: Some(before), ..first });
    }
    let last = LastRun::read(green).await?;
    let choices =
        Choices { tables: last.with_moved(&options.verify.choices.tables), ..options.verify.choices.clone() };
    let inspection = Box::pin(Inspection::take(&blue, green, &choices)).await?;
    inspection.refusal()?;
    let work = Work {
        blue: blue.clone(),
        green,
        inspection: &inspection,
        selection: &selection,
        options,
        observer: observer.clone(),
    };
    let mut repair = Box::pin(work.journaled(&first, before, confirm)).await?;
    repair.seconds = began.elapsed().as_secs_f64();
    findings.after_repair();
    let again = verify::Options { rows_of: Some(selection.tables()), ..options.verify.clone() };
    let second = Box::pin(verify::compare(blue, green, &again, observer, findings)).await?;
    Ok(merged(first, second, repair, began))
}

/// What shall be done about the findings.
fn selected(findings: &mut Findings, first: &Report, options: &Options) -> Result<Selection> {
    let mut selection = findings.selection.take().unwrap_or_default();
    if selection.is_too_large() {
        return Err(Error::refused(format!("more than {MOST} rows differ: that is no repair"))
            .remedy("Bootstrap green afresh and run migrate."));
    }
    if !options.delete_extra {
        selection.remove.clear();
    }
    // What the data plane wrote since the run is no damage, unless somebody says so.
    let is_traffic = |name: &str| {
        let writer = first.tables.iter().find(|table| table.table == name).map(|table| table.writer);
        writer == Some(Writer::Traffic) && !options.verify.only.contains(name)
    };
    selection.without(is_traffic);
    Ok(selection)
}

/// The report after the repair: what was compared again in place of what it was before.
fn merged(first: Report, second: Report, repair: Repair, began: Instant) -> Report {
    let mut again: BTreeMap<String, TableReport> =
        second.tables.into_iter().map(|table| (table.table.clone(), table)).collect();
    let tables: Vec<TableReport> =
        first.tables.into_iter().map(|table| again.remove(&table.table).unwrap_or(table)).collect();
    let (summary, traffic) = sums(&tables);
    Report {
        clean: summary.clean() && second.other_findings == 0,
        summary,
        traffic,
        tables,
        findings: first.findings + second.findings,
        other_findings: second.other_findings,
        definitions: second.definitions,
        first: second.first,
        repair: Some(repair),
        seconds: began.elapsed().as_secs_f64(),
        ..first
    }
}

/// One repair under way.
struct Work<'a> {
    blue: Arc<Blue>,
    green: &'a Green,
    inspection: &'a Inspection,
    selection: &'a Selection,
    options: &'a Options,
    observer: Arc<dyn Observer>,
}

impl Work<'_> {
    /// Enters the repair into the journal, whose guard keeps every other run away meanwhile.
    async fn journaled(&self, first: &Report, before: Repair, confirm: Confirm<'_>) -> Result<Repair> {
        let entry = RunEntry {
            run: self.options.run,
            cluster: self.blue.cluster_name().to_owned(),
            keyspace: self.blue.keyspace().to_owned(),
            map_digest: format!("{:x}", Sha256::digest(format!("{:?}", self.inspection.blue.map))),
        };
        let mut journal = Journal::open(self.green, &entry).await?;
        let result = self.staged(&mut journal, first, before, confirm).await;
        let dropped = Stage::of(self.green, self.options.run).drop_tables().await;
        let noted = if result.is_err() { journal.note("failed").await } else { Ok(()) };
        let closed = journal.close().await;
        for error in [dropped, noted, closed].into_iter().filter_map(Result::err) {
            tracing::warn!("{error}; the next run removes what is left in our own schema.");
        }
        result
    }

    async fn staged(
        &self,
        journal: &mut Journal,
        first: &Report,
        before: Repair,
        confirm: Confirm<'_>,
    ) -> Result<Repair> {
        // All of blue goes through the stage: whether a row may be written depends on others, its parents first.
        let stage = Stage::create(self.green, self.options.run, &self.inspection.plan).await?;
        self.load(&stage).await?;
        journal.note("staged").await?;
        let ledger = Ledger::read(self.green, &self.inspection.plan).await?;
        let mend = RowRepair { apply: self.applying(&stage, &ledger) };
        let mut repair = self.select(&mend, before).await?;
        self.observer.finish();
        if !confirm(first, &repair).await? {
            return Err(Error::new(
                Kind::Interrupted,
                "not repaired: the question was not answered with yes; green is as it was",
            ));
        }
        failpoints::reached("staged").await;
        let mended = self.apply(&mend, journal).await?;
        (repair.written, repair.removed, repair.tags) = (mended.written, mended.removed, mended.tags);
        Ok(repair)
    }

    async fn load(&self, stage: &Stage) -> Result<()> {
        let plan = Arc::new(self.inspection.plan.clone());
        self.observer.phase(Phase::Staging, plan.moved.len());
        let loader = Arc::new(Loader {
            blue: self.blue.clone(),
            target: Target::Stage(Box::new(stage.clone())),
            plan: plan.clone(),
            surroundings: surroundings(self.inspection),
            observer: self.observer.clone(),
            parallel: self.blue.parallel(),
            wanted: Vec::new(),
            spare: Spare::default(),
        });
        loader.run().await?;
        stage.analyze(&plan).await?;
        self.observer.phase(Phase::Checking, plan.moved.len());
        let checks = Checks {
            stage,
            plan: &plan,
            catalog: &self.inspection.green.catalog,
            names: &self.inspection.blue.map.names,
            gone: None,
        };
        checks.run(&self.kept(), |table| self.observer.done(table)).await.map(|_| ())
    }

    /// A row that stands on green was let go by the run that wrote it, also as one of several duplicates.
    fn kept(&self) -> Vec<(String, Value)> {
        let keys =
            self.selection.write.iter().flat_map(|(table, keys)| keys.values().map(move |key| (table, key)));
        keys.filter(|(_, key)| key.on_green).map(|(table, key)| (table.clone(), key.shown.clone())).collect()
    }

    fn applying<'s>(&'s self, stage: &'s Stage, ledger: &'s Ledger) -> Apply<'s> {
        Apply {
            stage,
            plan: &self.inspection.plan,
            catalog: &self.inspection.green.catalog,
            map: &self.inspection.blue.map,
            baseline: self.options.verify.choices.baseline.as_ref(),
            first_load: false,
            ledger,
            merge: None,
        }
    }

    /// Tells green which rows it is about, and learns which of them cannot be written.
    async fn select(&self, mend: &RowRepair<'_>, mut repair: Repair) -> Result<Repair> {
        let mut tx = self.green.begin().await?;
        mend.create(&mut tx).await?;
        for (all, remove) in [(&self.selection.write, false), (&self.selection.remove, true)] {
            for (table, keys) in all {
                let keys: Vec<&Value> = keys.values().map(|key| &key.shown).collect();
                mend.select(&mut tx, Keys { table, keys: &keys, remove }).await?;
            }
        }
        for table in self.tables() {
            let left = mend.left(&mut tx, table).await?;
            let wanted = self.selection.write.get(&table.table).map_or(0, |keys| keys.len() as u64);
            let can = wanted.saturating_sub(left.len() as u64);
            if can > 0 {
                repair.write.insert(table.table.clone(), can);
            }
            repair.not_repaired += left.len() as u64;
            let room = SHOWN.saturating_sub(repair.left.len());
            repair.left.extend(left.into_iter().take(room));
        }
        repair.remove =
            self.selection.remove.iter().map(|(table, keys)| (table.clone(), keys.len() as u64)).collect();
        tx.commit().await.during(&self.green, "cannot select the rows to repair")?;
        Ok(repair)
    }

    /// The tables with selected rows, parents first.
    fn tables(&self) -> Vec<&TablePlan> {
        let wanted = self.selection.tables();
        self.inspection.plan.moved.iter().filter(|table| wanted.contains(&table.table)).collect()
    }

    async fn apply(&self, mend: &RowRepair<'_>, journal: &mut Journal) -> Result<Mended> {
        let what = "cannot repair green";
        let tables = self.tables();
        self.observer.phase(Phase::Applying, tables.len());
        let mut tx = self.green.begin().await?;
        let mended = mend.run(&mut tx, &tables).await?;
        let counts = serde_json::json!({ "written": mended.written, "removed": mended.removed });
        journal.state(&mut tx, "repaired", Some(&counts)).await?;
        failpoints::reached("applying").await;
        journal.still_guarded().await?;
        if let Err(error) = tx.commit().await {
            let error = self.green.explain(error, what);
            if !journal.came_to("repaired", error).await? {
                return Err(Error::new(Kind::Server, "green did not commit the repair; it is as it was")
                    .remedy("Run the command again."));
            }
        }
        failpoints::reached("applied").await;
        Ok(mended)
    }
}

impl Repair {
    /// Rows that are to be written.
    pub fn to_write(&self) -> u64 {
        self.write.values().sum()
    }

    /// Rows that are to go.
    pub fn to_remove(&self) -> u64 {
        self.remove.values().sum()
    }
}
