//! The rehearsal: `plan` runs `migrate` against a scratch PostgreSQL that is built from green's catalog or, before green
//! exists, from the schema that blue's version of Kong bootstraps. Green and blue are only read. The scratch server runs
//! on this machine, ends with this process and leaves no files.

mod columns;
mod scratch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::ready;
use serde::Serialize;
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::database_info::DatabaseInfo;
use crate::error::{Error, Result};
use crate::green::config::GreenConfig;
use crate::green::local::{self, LocalPostgres};
use crate::green::session::Green;
use crate::inspect::{BlueSide, GreenSide, InspectOptions, Inspection};
use crate::migrate::destination::{Destination, QuickResults};
use crate::migrate::load::Loader;
use crate::migrate::rejects::{AcceptedRejects, RejectsFile};
use crate::migrate::report::{MigrationReport, PhaseSeconds, Refusal, RowGroup, RunOutcome};
use crate::migrate::summary::{RejectsAndRepairs, ReportBuilder};
use crate::migrate::{self, MigrateOptions};
use crate::progress::{Observer, ProgressPhase};
use crate::secrets::Redaction;

pub use columns::TableColumns;

#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// About tables, maps and other sessions.
    pub inspect: InspectOptions,
    /// Where the rows that would be rejected are written.
    pub rejects_file: Option<PathBuf>,
    /// Write secrets into that file, not their digests.
    pub show_secrets: bool,
    pub scratch: Scratch,
}

#[derive(Debug, Clone, Default)]
pub enum Scratch {
    /// In a PostgreSQL that is started for it.
    #[default]
    Own,
    /// In this database, which must be empty.
    At(Box<GreenConfig>),
    /// No server: rows are converted only.
    None,
}

/// What a plan shows: the report of the rehearsal, and how columns are converted.
#[derive(Debug, Clone, Serialize)]
pub struct PlanReport {
    /// What `migrate` would do.
    #[serde(flatten)]
    pub report: MigrationReport,
    pub columns: Vec<TableColumns>,
    /// What this plan does not check, each as a sentence.
    pub not_checked: Vec<String>,
}

impl PlanReport {
    /// 0 nothing to reject, 3 there would be rejects, 4 `migrate` would refuse.
    pub fn exit_code(&self) -> u8 {
        match (&self.report.refusal, self.report.totals.rejected) {
            (Some(_), _) => 4,
            (None, 0) => 0,
            (None, _) => 3,
        }
    }
}

/// Rehearses a migration, or converts every row where no scratch is wanted.
pub async fn run(
    blue: Arc<Blue>,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let planner = Planner { blue, green, rehearsal, observer };
    match (&rehearsal.scratch, green) {
        (Scratch::None, Some(green)) => planner.convert_only(green).await,
        (Scratch::None, None) => Err(Error::usage("plan needs green or a scratch server")),
        (Scratch::At(config), _) => {
            let existing = scratch::check_empty(config).await?;
            let result = Box::pin(planner.rehearse_in(config.as_ref().clone(), Vec::new())).await;
            let emptied = scratch::empty(config, &existing).await;
            match (result, emptied) {
                (Ok(report), Err(error)) => {
                    tracing::warn!("{error}: copies of Kong's rows are left in it.");
                    Ok(report)
                }
                (result, _) => result,
            }
        }
        (Scratch::Own, _) => {
            let server = LocalPostgres::start(local::Options::scratch()).await?;
            let result = match scratch::create_database(green, &server).await {
                Ok((config, not_checked)) => Box::pin(planner.rehearse_in(config, not_checked)).await,
                Err(error) => Err(error),
            };
            server.stop().await?;
            result
        }
    }
}

struct Planner<'a> {
    blue: Arc<Blue>,
    green: Option<&'a Green>,
    rehearsal: &'a Rehearsal,
    observer: Arc<dyn Observer>,
}

impl Planner<'_> {
    /// Builds Kong's schema in this database, and migrates into it.
    async fn rehearse_in(&self, config: GreenConfig, mut not_checked: Vec<String>) -> Result<PlanReport> {
        let config = scratch::config(config, self.green)?;
        not_checked.extend(scratch::build(&self.blue, self.green, self.rehearsal, &config).await?);
        let name = format!("kongferry rehearsal {}", std::process::id());
        let scratch = Green::connect(&config, &name).await?;
        let inspect = InspectOptions { green_online: true, ..self.rehearsal.inspect.clone() };
        let mut inspection = inspect_scratch(&self.blue, &scratch, &inspect).await?;
        let refusal = match self.green {
            Some(green) => {
                let real = Inspection::read(&self.blue, green, &self.rehearsal.inspect).await?;
                inspection.findings.clone_from(&real.findings);
                real.refusal().err()
            }
            None => inspection.refusal().err(),
        };
        let columns = columns::columns(&inspection.plan);
        let options = MigrateOptions {
            run: Uuid::new_v4(),
            inspect,
            accept: AcceptedRejects::All,
            rejects_file: self.rehearsal.rejects_file.clone(),
            show_secrets: self.rehearsal.show_secrets,
            rehearsal: true,
            replace: false,
        };
        let (blue, observer) = (self.blue.clone(), self.observer.clone());
        let confirmed = |_: &MigrationReport| Box::pin(ready(Ok(true))) as _;
        let result = migrate::run(blue, &scratch, inspection, &options, observer, &confirmed).await;
        scratch.close().await;
        let mut report = match (result, refusal) {
            // What would stop migrate is the better explanation.
            (Err(_), Some(error)) | (Err(error), None) => return Err(error),
            (Ok(report), Some(error)) => MigrationReport { refusal: Some(Refusal::from(&error)), ..report },
            (Ok(report), None) => report,
        };
        report.green = self.green.map(DatabaseInfo::from).unwrap_or_default();
        report.outcome = RunOutcome::Rehearsed;
        Ok(PlanReport { report, columns, not_checked })
    }

    /// Converts every row and checks nothing else.
    async fn convert_only(&self, green: &Green) -> Result<PlanReport> {
        let create = |path| RejectsFile::create(path, Redaction::new(self.rehearsal.show_secrets));
        let mut file = self.rehearsal.rejects_file.as_deref().map(create).transpose()?;
        let inspection = Inspection::read(&self.blue, green, &self.rehearsal.inspect).await?;
        file.iter_mut().for_each(|file| file.hide_secrets_of(&inspection.blue.map));
        let began = Instant::now();
        self.observer.begin_phase(ProgressPhase::Staging, inspection.plan.moved.len());
        let destination = Destination::Discard(Mutex::default());
        let loader = Arc::new(Loader::new(&self.blue, &inspection, destination, &self.observer));
        let loaded = loader.clone().run().await?;
        self.observer.finish();
        let seconds = began.elapsed().as_secs_f64();
        let seconds = PhaseSeconds { stage: seconds, total: seconds, ..PhaseSeconds::default() };
        let results = match &loader.destination {
            Destination::Discard(results) => {
                std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner))
            }
            Destination::Stage(_) | Destination::Fingerprints(..) => QuickResults::default(),
        };
        if let Some(file) = &mut file {
            results.rejects.iter().try_for_each(|(table, row)| file.write_unstaged(table, row))?;
        }
        let builder = ReportBuilder {
            id: Uuid::new_v4(),
            blue: &self.blue,
            green,
            inspection: &inspection,
            seconds,
            outcome: RunOutcome::Rehearsed,
            forecast: None,
        };
        let mut report = builder.report(&loaded, &BTreeMap::new(), None, group(results));
        report.rejects_file = file.map(|file| file.path().display().to_string());
        report.refusal = inspection.refusal().err().map(|error| Refusal::from(&error));
        Ok(PlanReport {
            report,
            columns: columns::columns(&inspection.plan),
            not_checked: vec![
                "duplicates, references, CHECK constraints, sizes of index rows, rows already on green (plan without --quick checks all of them).".to_owned(),
            ],
        })
    }
}

/// Only the catalog of the scratch database matters, not its rows and sessions.
async fn inspect_scratch(blue: &Blue, scratch: &Green, inspect: &InspectOptions) -> Result<Inspection> {
    let blue_side = BlueSide::read(blue, &inspect.maps).await?;
    let green_side = GreenSide::read(scratch).await?;
    Inspection::from_sides(blue, scratch, blue_side, green_side, inspect).await
}

fn group(results: QuickResults) -> RejectsAndRepairs {
    let mut groups: BTreeMap<(String, &'static str), RowGroup> = BTreeMap::new();
    for (table, row) in results.rejects {
        let group = groups.entry((table.clone(), row.reason)).or_insert_with(|| RowGroup {
            table,
            column: None,
            reason: row.reason.to_owned(),
            rows: 0,
            examples: Vec::new(),
        });
        group.rows += 1;
        if group.examples.len() < 3 {
            group.examples.push(row.key);
        }
    }
    let repairs = results.repairs.into_iter().map(|((table, column, repair), (rows, examples))| RowGroup {
        table,
        column: Some(column),
        reason: repair.to_owned(),
        rows,
        examples,
    });
    RejectsAndRepairs {
        rejects: groups.into_values().collect(),
        repairs: repairs.collect(),
        repaired: results.repaired_rows,
    }
}
