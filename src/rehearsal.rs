//! The rehearsal: `plan` runs `migrate` against a scratch PostgreSQL that is built from green's catalog or, before green
//! exists, from the schema that blue's version of Kong bootstraps. Green and blue are only read. The scratch server runs
//! on this machine, ends with this process and leaves no files.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::future::ready;
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::database_info::DatabaseInfo;
use crate::error::{Error, Kind, Result};
use crate::green::blueprint::{Blueprint, copy_rows};
use crate::green::config::GreenConfig;
use crate::green::kong_schema;
use crate::green::local::{self, LocalPostgres};
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, literal};
use crate::green::statement::query_scalar;
use crate::inspect::{BlueSide, GreenSide, InspectOptions, Inspection};
use crate::mapping::prefix::PrefixPolicy;
use crate::mapping::table_plan::{
    ColumnPlan, ColumnSource, ExpiryChoice, KeyspacePlan, Substitute, TablePlan,
};
use crate::migrate::destination::{Destination, QuickResults};
use crate::migrate::load::{BufferPool, Loader};
use crate::migrate::rejects::{AcceptedRejects, RejectsFile};
use crate::migrate::report::{MigrationReport, PhaseSeconds, Refusal, RowGroup, RunOutcome};
use crate::migrate::summary::{RejectsAndRepairs, ReportBuilder};
use crate::migrate::{self, MigrateOptions};
use crate::progress::{Observer, ProgressPhase};
use crate::secrets::Redaction;

/// The database in our own scratch server.
const DATABASE: &str = "rehearsal";

const WORK_SCHEMA: &str = "kongferry";

#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// About tables, maps and other sessions.
    pub choices: InspectOptions,
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

/// How one table's columns are converted.
#[derive(Debug, Clone, Serialize)]
pub struct TableColumns {
    pub table: String,
    /// Its columns: green's in their order, then blue's that are left behind.
    pub columns: Vec<ColumnRule>,
}

#[derive(Debug, Clone, Serialize)]
pub struct ColumnRule {
    pub column: String,
    /// Its type on blue; a dash where blue has none.
    pub blue: String,
    /// The rule in a few words.
    pub rule: String,
    /// Its type on green; a dash where green has none.
    pub green: String,
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
    match (&rehearsal.scratch, green) {
        (Scratch::None, Some(green)) => quick(blue, green, rehearsal, observer).await,
        (Scratch::None, None) => Err(Error::usage("plan needs green or a scratch server")),
        (Scratch::At(config), _) => {
            let before = must_be_empty(config).await?;
            let result = Box::pin(in_given(blue, green, rehearsal, config, observer)).await;
            let emptied = empty(config, &before).await;
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
            let result = Box::pin(in_own(blue, green, rehearsal, &server, observer)).await;
            server.stop().await?;
            result
        }
    }
}

async fn in_given(
    blue: Arc<Blue>,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    config: &GreenConfig,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let schema = green.map_or("public", Green::kong_schema);
    let config = config.clone().with_schemas(schema, WORK_SCHEMA)?.without_schema_check();
    let not_checked = build(&blue, green, rehearsal, &config).await?;
    Box::pin(rehearse(blue, green, rehearsal, &config, not_checked, observer)).await
}

async fn in_own(
    blue: Arc<Blue>,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    server: &LocalPostgres,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let mut not_checked = Vec::new();
    create_database(green, server, &mut not_checked).await?;
    let schema = green.map_or("public", Green::kong_schema);
    let config = GreenConfig::new(server.connect_options(DATABASE))
        .with_schemas(schema, WORK_SCHEMA)?
        .without_schema_check();
    not_checked.extend(build(&blue, green, rehearsal, &config).await?);
    Box::pin(rehearse(blue, green, rehearsal, &config, not_checked, observer)).await
}

/// With the encoding and the collation of green, where this machine has them.
async fn create_database(
    green: Option<&Green>,
    server: &LocalPostgres,
    not_checked: &mut Vec<String>,
) -> Result<()> {
    let mut connection = connect(&server.connect_options("postgres")).await?;
    let plain = format!("create database {DATABASE} template template0 encoding 'UTF8'");
    let result = match green {
        None => execute(&mut connection, &plain).await,
        Some(green) => {
            let locale = locale(green).await?;
            let sql = fill(
                "create database {database} template template0 encoding {encoding} lc_collate {collate} lc_ctype {ctype}",
                &[
                    ("database", DATABASE),
                    ("encoding", &literal(&locale.0)),
                    ("collate", &literal(&locale.1)),
                    ("ctype", &literal(&locale.2)),
                ],
            );
            match sqlx::raw_sql(sql).execute(&mut connection).await {
                Ok(_) => Ok(()),
                Err(_) => {
                    not_checked.push(format!(
                        "green's collation is {}, which this machine does not have: the rehearsal compared texts byte by byte.",
                        locale.1
                    ));
                    execute(&mut connection, &plain).await
                }
            }
        }
    };
    // An error while closing changes nothing: the connection is not used again.
    let _ = connection.close().await;
    result
}

async fn locale(green: &Green) -> Result<(String, String, String)> {
    let what = "cannot read green's collation";
    let mut tx = green.begin_snapshot().await?;
    let sql = "select pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text from pg_database where datname = current_database()";
    let row = crate::green::statement::query_as(sql).fetch_one(&mut *tx).await.during(green, what)?;
    tx.rollback().await.during(green, what)?;
    Ok(row)
}

async fn connect(options: &sqlx::postgres::PgConnectOptions) -> Result<PgConnection> {
    PgConnection::connect_with(options)
        .await
        .map_err(|e| Error::new(Kind::Connection, "cannot connect to the scratch server").source(e))
}

async fn execute(connection: &mut PgConnection, sql: &str) -> Result<()> {
    let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.map(|_| ())
        .map_err(|e| Error::new(Kind::Server, "cannot build Kong's schema on the scratch server").source(e))
}

/// Refuses a scratch database with tables in it. Returns the objects that it has nevertheless, such as extensions.
async fn must_be_empty(config: &GreenConfig) -> Result<Vec<i64>> {
    let scratch = Green::connect(&config.clone().without_schema_check(), "kongferry scratch").await?;
    let what = "cannot read the scratch database";
    let mut tx = scratch.begin_snapshot().await?;
    let relations: i64 = query_scalar(include_str!("../sql/inspect/relations.sql"))
        .fetch_one(&mut *tx)
        .await
        .during(&scratch, what)?;
    let before = query_scalar(include_str!("../sql/scratch/existing_objects.sql"))
        .fetch_one(&mut *tx)
        .await
        .during(&scratch, what)?;
    tx.rollback().await.during(&scratch, what)?;
    scratch.close().await;
    if relations > 0 {
        return Err(Error::usage("the scratch database is not empty, and a rehearsal writes to it").remedy(
            "Pass an empty database with --scratch, or omit it: plan then starts a PostgreSQL of its own.",
        ));
    }
    Ok(before)
}

/// Removes everything that the rehearsal created in the given database, which includes credentials.
async fn empty(config: &GreenConfig, before: &[i64]) -> Result<()> {
    let scratch = Green::connect(&config.clone().without_schema_check(), "kongferry scratch").await?;
    let what = "the scratch database could not be emptied";
    let mut tx = scratch.begin().await?;
    let statements: Vec<String> = query_scalar(include_str!("../sql/scratch/drop_new_objects.sql"))
        .bind(before)
        .fetch_all(&mut *tx)
        .await
        .during(&scratch, what)?;
    for statement in statements {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await;
        done.during(&scratch, what)?;
    }
    tx.commit().await.during(&scratch, what)?;
    scratch.close().await;
    Ok(())
}

/// Builds Kong's schema on the scratch server; returns what could not be rebuilt and does not affect rows.
async fn build(
    blue: &Blue,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    config: &GreenConfig,
) -> Result<Vec<String>> {
    let scratch = Green::connect(config, "kongferry scratch").await?;
    let mut tx = scratch.begin().await?;
    let left_out = match green {
        Some(green) => rebuild(green, rehearsal, &mut tx).await?,
        None => bootstrap(blue, rehearsal, &mut tx).await?,
    };
    tx.commit().await.during(&scratch, "cannot build Kong's schema on the scratch server")?;
    scratch.close().await;
    Ok(left_out)
}

async fn rebuild(green: &Green, rehearsal: &Rehearsal, scratch: &mut PgConnection) -> Result<Vec<String>> {
    let mut tx = green.begin_snapshot().await?;
    let blueprint = Blueprint::read(&mut tx, green.kong_schema(), &rehearsal.choices.tables.skip).await?;
    blueprint.build_before(scratch).await?;
    for table in blueprint.tables() {
        copy_rows(&mut tx, scratch, green.kong_schema(), table).await?;
    }
    blueprint.build_after(scratch).await?;
    tx.rollback().await.during(green, "cannot read green's schema")?;
    Ok(blueprint.left_out().to_vec())
}

async fn bootstrap(blue: &Blue, rehearsal: &Rehearsal, scratch: &mut PgConnection) -> Result<Vec<String>> {
    let side = BlueSide::read(blue, &rehearsal.choices.maps).await?;
    let line = side.map.line.clone().unwrap_or_default();
    let enterprise = side.meta.is_enterprise();
    let kong = if enterprise { "Kong Enterprise" } else { "open-source Kong" };
    // A version of Enterprise that no map is for is not that of the open-source line with the same core.
    let known = side.map.detect.is_some().then(|| kong_schema::statements(&line, enterprise)).flatten();
    let Some(statements) = known else {
        return Err(Error::usage(format!("the schema of {kong} {line} on PostgreSQL is not built in"))
            .remedy("Bootstrap green with blue's version of Kong and pass its address with --green."));
    };
    execute(scratch, &statements).await?;
    Ok(vec![
        "green itself: its rows, its version and its privileges (pass --green once it exists).".to_owned(),
        format!("whether green's plugins have tables of their own; the schema is that of {kong} {line}."),
    ])
}

async fn rehearse(
    blue: Arc<Blue>,
    green: Option<&Green>,
    rehearsal: &Rehearsal,
    scratch: &GreenConfig,
    not_checked: Vec<String>,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let name = format!("kongferry rehearsal {}", std::process::id());
    let scratch = Green::connect(scratch, &name).await?;
    let choices = InspectOptions { green_online: true, ..rehearsal.choices.clone() };
    let mut inspection = inspect_scratch(&blue, &scratch, &choices).await?;
    let mut refusal = None;
    if let Some(green) = green {
        let real = Inspection::read(&blue, green, &rehearsal.choices).await?;
        inspection.findings.clone_from(&real.findings);
        refusal = real.refusal().err();
    } else if let Err(error) = inspection.refusal() {
        refusal = Some(error);
    }
    let columns = columns(&inspection.plan);
    let options = MigrateOptions {
        run: Uuid::new_v4(),
        choices,
        accept: AcceptedRejects::All,
        rejects_file: rehearsal.rejects_file.clone(),
        show_secrets: rehearsal.show_secrets,
        rehearsal: true,
        replace: false,
    };
    let result =
        migrate::run(blue, &scratch, inspection, &options, observer, &|_| Box::pin(ready(Ok(true)))).await;
    scratch.close().await;
    let mut report = match (result, refusal.take()) {
        (Ok(report), None) => report,
        (Ok(mut report), Some(error)) => {
            report.refusal = Some(Refusal::from(&error));
            report
        }
        // What would stop migrate is the better explanation.
        (Err(_), Some(error)) => return Err(error),
        (Err(error), None) => return Err(error),
    };
    report.green = green.map(DatabaseInfo::from).unwrap_or_default();
    report.outcome = RunOutcome::Rehearsed;
    Ok(PlanReport { report, columns, not_checked })
}

/// Only the catalog of the scratch database matters, not its rows and sessions.
async fn inspect_scratch(blue: &Blue, scratch: &Green, choices: &InspectOptions) -> Result<Inspection> {
    let blue_side = BlueSide::read(blue, &choices.maps).await?;
    let green_side = GreenSide::read(scratch).await?;
    Inspection::from_sides(blue, scratch, blue_side, green_side, choices).await
}

/// Converts every row and checks nothing else.
async fn quick(
    blue: Arc<Blue>,
    green: &Green,
    rehearsal: &Rehearsal,
    observer: Arc<dyn Observer>,
) -> Result<PlanReport> {
    let create = |path| RejectsFile::create(path, Redaction::new(rehearsal.show_secrets));
    let mut file = rehearsal.rejects_file.as_deref().map(create).transpose()?;
    let inspection = Inspection::read(&blue, green, &rehearsal.choices).await?;
    file.iter_mut().for_each(|file| file.hide_secrets_of(&inspection.blue.map));
    let began = Instant::now();
    let plan = Arc::new(inspection.plan.clone());
    observer.begin_phase(ProgressPhase::Staging, plan.moved.len());
    let loader = Arc::new(Loader {
        blue: blue.clone(),
        destination: Destination::Discard(Mutex::new(QuickResults::default())),
        filters: Vec::new(),
        buffers: BufferPool::default(),
        plan: plan.clone(),
        row_context: migrate::row_context(&inspection),
        observer: observer.clone(),
        parallel: blue.parallel(),
    });
    let loaded = loader.clone().run().await?;
    observer.finish();
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
        blue: &blue,
        green,
        inspection: &inspection,
        seconds,
        outcome: RunOutcome::Rehearsed,
        forecast: None,
    };
    let mut report = builder.report(&loaded, &BTreeMap::new(), None, found(results));
    report.rejects_file = file.map(|file| file.path().display().to_string());
    report.refusal = inspection.refusal().err().map(|error| Refusal::from(&error));
    Ok(PlanReport {
        report,
        columns: columns(&plan),
        not_checked: vec![
            "duplicates, references, CHECK constraints, sizes of index rows, rows already on green (plan without --quick checks all of them).".to_owned(),
        ],
    })
}

fn found(results: QuickResults) -> RejectsAndRepairs {
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

/// How every column of every moved table is converted.
fn columns(plan: &KeyspacePlan) -> Vec<TableColumns> {
    plan.moved
        .iter()
        .map(|table| TableColumns { table: table.table.clone(), columns: rules(table) })
        .collect()
}

fn rules(table: &TablePlan) -> Vec<ColumnRule> {
    let on_green = table.columns.iter().map(|column| ColumnRule {
        column: column.name.clone(),
        blue: source_type(table, column),
        rule: describe(table, column),
        green: column.green_type.clone(),
    });
    let left = |name: &str, rule: String| ColumnRule {
        column: name.to_owned(),
        blue: blue_type(table, name),
        rule,
        green: "–".to_owned(),
    };
    let dropped = table.dropped.iter().map(|(name, why)| left(name, format!("left behind: {why}")));
    let partition = table.partition.iter().filter_map(|(cell, value)| {
        Some(left(table.cell_name(*cell)?, format!("left behind: only \"{value}\" is read by Kong")))
    });
    let unknown = table.unknown.iter().filter_map(|&cell| {
        Some(left(table.cell_name(cell)?, "must be null in every row: green has no such column".to_owned()))
    });
    on_green.chain(partition).chain(dropped).chain(unknown).collect()
}

fn blue_type(table: &TablePlan, name: &str) -> String {
    let found = table.cells.iter().find_map(|cell| match cell {
        crate::mapping::table_plan::Cell::Value(own, cql_type) if own == name => Some(cql_type.to_string()),
        _ => None,
    });
    found.unwrap_or_else(|| "–".to_owned())
}

fn source_type(table: &TablePlan, column: &ColumnPlan) -> String {
    match &column.source {
        ColumnSource::Null => "–".to_owned(),
        ColumnSource::CellExpiry { .. } => "TTL of cells".to_owned(),
        ColumnSource::WindowExpiry { .. }
        | ColumnSource::Cell { .. }
        | ColumnSource::CacheKey { .. }
        | ColumnSource::WhenNamed { .. } => blue_type(table, &column.name),
    }
}

fn describe(table: &TablePlan, column: &ColumnPlan) -> String {
    match &column.source {
        ColumnSource::Null => "NULL".to_owned(),
        ColumnSource::CellExpiry { choice, .. } => match choice {
            ExpiryChoice::Smallest => "read time + smallest TTL of the cells that Kong needs".to_owned(),
            ExpiryChoice::Largest => "read time + largest TTL of the row".to_owned(),
        },
        ColumnSource::WhenNamed { table, value, .. } => {
            format!("\"{value}\" in the row that {table} names")
        }
        ColumnSource::WindowExpiry { start, .. } => {
            format!("{} + seconds of the period", table.cell_name(*start).unwrap_or_default())
        }
        ColumnSource::CacheKey { .. } => "rebuilt from its parts".to_owned(),
        ColumnSource::Cell { prefixed: true, prefix_policy: PrefixPolicy::Plain, .. } => {
            "same bytes: its rows carry no workspace".to_owned()
        }
        ColumnSource::Cell { prefixed: true, .. } => "without the row's \"<ws_id>:\"".to_owned(),
        ColumnSource::Cell { conversion, when_null, .. } => match when_null {
            None => conversion.describe().to_owned(),
            Some(Substitute::Boolean(value)) => format!("{}; null becomes {value}", conversion.describe()),
            Some(Substitute::Integer(bytes)) => {
                let zero = bytes.iter().all(|byte| *byte == 0);
                let value = if zero { "0".to_owned() } else { "the map's number".to_owned() };
                format!("{}; null becomes {value}", conversion.describe())
            }
            Some(Substitute::CertificateDigest(_)) => {
                format!("{}; null is computed from the certificate", conversion.describe())
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::green::kong_schema;
    use crate::mapping::schema_map::SchemaMap;

    #[test]
    fn every_built_in_map_has_its_built_in_schema() {
        for map in SchemaMap::built_in().expect("maps") {
            let line = map.line.clone().unwrap_or_default();
            assert!(kong_schema::statements(&line, map.is_enterprise()).is_some(), "{line}");
        }
    }
}
