//! The proof: reads blue and green again as Kong would read them, and compares every row field by field.
//!
//! Connections and paging are shared with `migrate`; decoders and reading rules are not, so that a mistake there is
//! found here.

mod blue_scan;
pub mod cells;
mod compare;
pub(crate) mod definitions;
pub(crate) mod differences;
mod green_checks;
mod green_scan;
pub mod json;
mod json_writer;
pub(crate) mod key;
mod kong_row;
pub(crate) mod last_run;
pub(crate) mod options;
mod prefix_census;
pub mod prefixed_columns;
pub mod reading_rules;
pub(crate) mod report;
mod row_digests;
mod tables;
mod value;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::session::Green;
use crate::inspect::{BlueSide, GreenSide};
use crate::progress::{Observer, ProgressPhase};

use compare::TableComparer;
use definitions::DefinitionsState;
use differences::DifferenceLog;
use green_checks::GreenChecks;
use last_run::LastRun;
use options::{Coverage, VerifyOptions};
use reading_rules::{ACTIVE_KEYS, ReadingRules};
use report::{Restriction, VerifyReport, sum};

/// Compares both sides and writes the differences file. Neither side is written.
pub(crate) async fn run(
    blue: Arc<Blue>,
    green: &Green,
    options: &VerifyOptions,
    observer: Arc<dyn Observer>,
) -> Result<VerifyReport> {
    let mut differences = DifferenceLog::create(options.findings.as_deref(), options.show_secrets)?;
    let result = compare(blue, green, options, observer.clone(), &mut differences).await;
    observer.finish();
    differences.close()?;
    result
}

/// The same, with a differences file that is open already.
pub(crate) async fn compare(
    blue: Arc<Blue>,
    green: &Green,
    options: &VerifyOptions,
    observer: Arc<dyn Observer>,
    differences: &mut DifferenceLog,
) -> Result<VerifyReport> {
    let began = Instant::now();
    let count_before = differences.count;
    let blue_side = BlueSide::read(&blue, &options.choices.maps).await?;
    differences.hide_secrets_of(&blue_side.map);
    let green_side = GreenSide::read(green).await?;
    let run = LastRun::read(green).await?;
    let names = &blue_side.map.names;
    let workspaces = workspace_ids(&blue_side, green, options).await?;
    let active_keys = active_keys(&blue, &blue_side).await?;
    let tables = tables::compared(&blue_side, &green_side, options, &run, workspaces.as_ref(), &active_keys)?;
    let tables = prefix_census::decide(&blue, tables).await?;
    observer.begin_phase(ProgressPhase::Comparing, tables.len());
    let comparer = TableComparer {
        blue: blue.clone(),
        green,
        observer,
        parallel: blue.parallel(),
        workspace_column: names.workspace_column.as_deref(),
        cache_key_column: names.cache_key_column.as_deref(),
        coverage: options.coverage,
    };
    let no_rejects = HashSet::new();
    let mut reports = Vec::with_capacity(tables.len());
    let is_rechecked = |table: &&Arc<ReadingRules>| {
        options.recheck_tables.as_ref().is_none_or(|names| names.contains(&table.name))
    };
    for table in tables.iter().filter(is_rechecked) {
        let rejected = run.rejected.get(&table.name).unwrap_or(&no_rejects);
        reports.push(Box::pin(comparer.compare(table.clone(), rejected, differences)).await?);
    }
    let count_of_rows = differences.count;
    let checks = GreenChecks { green, catalog: &green_side.catalog, names };
    checks.run(&tables, workspaces.is_none(), differences).await?;
    let definitions = if workspaces.is_none() && options.only_tables.is_empty() {
        definitions::compare(green, &run, differences).await?
    } else {
        DefinitionsState::NotCompared
    };
    let other_findings = differences.count - count_of_rows;
    let (summary, traffic) = sum(&reports);
    Ok(VerifyReport {
        format: 1,
        clean: summary.is_clean() && other_findings == 0,
        kong: blue_side.map.line.clone().unwrap_or_default(),
        edition: blue_side.meta.edition(),
        kongferry: env!("CARGO_PKG_VERSION"),
        run: run.id,
        blue: blue.as_ref().into(),
        green: green.into(),
        summary,
        traffic,
        tables: reports,
        definitions,
        findings: differences.count - count_before,
        other_findings,
        findings_file: options.findings.as_ref().map(|path| path.display().to_string()),
        first: differences.first.clone(),
        partial: !options.only_tables.is_empty()
            || workspaces.is_some()
            || options.coverage != Coverage::Full,
        part: Restriction::from_options(options),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The ids of the keyring's active keys, which Enterprise on Cassandra keeps in a table of its own.
async fn active_keys(blue: &Blue, side: &BlueSide) -> Result<BTreeSet<String>> {
    match side.catalog.tables.contains_key(ACTIVE_KEYS) {
        true => blue.texts(ACTIVE_KEYS, "id").await,
        false => Ok(BTreeSet::new()),
    }
}

/// The ids of the requested workspace on either side; `None` where no workspace is requested.
async fn workspace_ids(
    blue: &BlueSide,
    green: &Green,
    options: &VerifyOptions,
) -> Result<Option<BTreeSet<[u8; 16]>>> {
    let Some(requested) = &options.workspace else { return Ok(None) };
    let is_requested = |name: &Option<String>| name.as_ref() == Some(requested);
    let on_blue = blue.workspaces.iter().filter(|(_, name)| is_requested(name));
    let mut ids: BTreeSet<[u8; 16]> = on_blue.map(|(id, _)| *id.as_bytes()).collect();
    if let Some(names) = &blue.map.names.workspaces {
        let on_green = green_checks::workspaces_named(green, names, requested).await?;
        ids.extend(on_green.iter().map(|id| *id.as_bytes()));
    }
    if !ids.is_empty() {
        return Ok(Some(ids));
    }
    let known: Vec<&str> = blue.workspaces.iter().filter_map(|(_, name)| name.as_deref()).collect();
    Err(Error::usage(format!("there is no workspace \"{requested}\""))
        .detail(format!("Blue's workspaces are: {}.", known.join(", ")))
        .remedy("Correct the name given with --workspace."))
}
