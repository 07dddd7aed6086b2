//! The proof: blue and green read again as Kong would read them, and compared, row by row and field by field.
//!
//! Connections and paging are shared with `migrate`, decoders and reading rules are not: a mistake there must show
//! here. A test over this folder's text keeps it so.

pub mod cells;
pub mod checks;
pub mod compare;
pub mod definitions;
pub mod findings;
pub mod green_scan;
pub mod journal;
pub mod json;
pub mod report;
pub mod rules;
pub mod scan;
pub mod selection;
#[cfg(test)]
mod slow_json;
pub mod spelling;
pub mod spool;
pub mod value;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::blue::session::Blue;
use crate::error::{Error, Result};
use crate::green::session::Green;
use crate::inspect::{BlueSide, Choices, GreenSide};
use crate::mapping::schema_map::IfMissing;
use crate::mapping::table_plan::KeyspacePlan;
use crate::progress::{Observer, Phase};

use checks::Checks;
use compare::Comparison;
use definitions::Definitions;
use findings::Findings;
use journal::LastRun;
use report::{Part, Report, sums};
use rules::Table;

/// How much of each table is looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Share {
    /// All of it.
    #[default]
    Whole,
    /// About so many of a hundred rows of each large table.
    Sample(f64),
}

/// What a comparison is told.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which tables were moved, and the user's maps.
    pub choices: Choices,
    /// Where findings are written.
    pub findings: Option<PathBuf>,
    /// Whether secrets are written out.
    pub show_secrets: bool,
    /// Only these tables; all where none is named.
    pub only: BTreeSet<String>,
    /// Only rows of the workspace of this name.
    pub workspace: Option<String>,
    /// How much of each table is looked at.
    pub share: Share,
    /// Rows of these tables only, while orphans, tags and definitions are looked for everywhere: the look after a repair.
    pub rows_of: Option<BTreeSet<String>>,
}

/// Compares both sides. Green and blue are only read.
pub async fn run(
    blue: Arc<Blue>,
    green: &Green,
    options: &Options,
    observer: Arc<dyn Observer>,
) -> Result<Report> {
    let mut findings = Findings::create(options.findings.as_deref(), options.show_secrets)?;
    let result = compare(blue, green, options, observer.clone(), &mut findings).await;
    observer.finish();
    findings.close()?;
    result
}

/// The same into findings that are open already.
pub async fn compare(
    blue: Arc<Blue>,
    green: &Green,
    options: &Options,
    observer: Arc<dyn Observer>,
    findings: &mut Findings,
) -> Result<Report> {
    let began = Instant::now();
    let before = findings.count;
    let blue_side = BlueSide::read(&blue, &options.choices.maps).await?;
    let green_side = GreenSide::read(green).await?;
    let run = LastRun::read(green).await?;
    let names = &blue_side.map.names;
    let scope = scope(&blue_side, green, options).await?;
    let tables = tables(&blue_side, &green_side, options, &run, scope.as_ref())?;
    observer.phase(Phase::Comparing, tables.len());
    let comparison = Comparison {
        blue: blue.clone(),
        green,
        observer,
        parallel: blue.parallel(),
        workspace: names.workspace_column.as_deref(),
        cache_key: names.cache_key_column.as_deref(),
        share: options.share,
    };
    let none = HashSet::new();
    let mut reports = Vec::with_capacity(tables.len());
    let wanted = |table: &&Arc<Table>| options.rows_of.as_ref().is_none_or(|own| own.contains(&table.name));
    for table in tables.iter().filter(wanted) {
        let rejected = run.rejected.get(&table.name).unwrap_or(&none);
        reports.push(Box::pin(comparison.table(table.clone(), rejected, findings)).await?);
    }
    let of_rows = findings.count;
    let checks = Checks { green, catalog: &green_side.catalog, names };
    checks.run(&tables, scope.is_none(), findings).await?;
    let definitions = if scope.is_none() && options.only.is_empty() {
        definitions::check(green, &run, findings).await?
    } else {
        Definitions::NotLookedAt
    };
    let other_findings = findings.count - of_rows;
    let (summary, traffic) = sums(&reports);
    Ok(Report {
        format: 1,
        clean: summary.clean() && other_findings == 0,
        kong: blue_side.map.line.clone().unwrap_or_default(),
        kongferry: env!("CARGO_PKG_VERSION"),
        run: run.id,
        blue: blue.as_ref().into(),
        green: green.into(),
        summary,
        traffic,
        tables: reports,
        definitions,
        findings: findings.count - before,
        other_findings,
        findings_file: options.findings.as_ref().map(|path| path.display().to_string()),
        first: findings.first.clone(),
        partial: !options.only.is_empty() || scope.is_some() || options.share != Share::Whole,
        part: Part::of(options),
        repair: None,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// The workspaces of the wanted name, on whichever side; nothing where all are wanted.
async fn scope(blue: &BlueSide, green: &Green, options: &Options) -> Result<Option<BTreeSet<[u8; 16]>>> {
    let Some(wanted) = &options.workspace else { return Ok(None) };
    let is_wanted = |name: &Option<String>| name.as_ref() == Some(wanted);
    let on_blue = blue.workspaces.iter().filter(|(_, name)| is_wanted(name)).map(|(id, _)| *id.as_bytes());
    let mut ids: BTreeSet<[u8; 16]> = on_blue.collect();
    if let Some(names) = &blue.map.names.workspaces {
        ids.extend(checks::workspaces_named(green, names, wanted).await?.iter().map(|id| *id.as_bytes()));
    }
    if !ids.is_empty() {
        return Ok(Some(ids));
    }
    let known: Vec<&str> = blue.workspaces.iter().filter_map(|(_, name)| name.as_deref()).collect();
    Err(Error::usage(format!("there is no workspace \"{wanted}\""))
        .detail(format!("Blue's workspaces are: {}.", known.join(", ")))
        .remedy("Correct the name given with --workspace."))
}

/// The tables that were moved, parents first. What moves only on request is compared where the last run moved it.
fn tables(
    blue: &BlueSide,
    green: &GreenSide,
    options: &Options,
    run: &LastRun,
    scope: Option<&BTreeSet<[u8; 16]>>,
) -> Result<Vec<Arc<Table>>> {
    let choices = run.with_moved(&options.choices.tables);
    let plan = KeyspacePlan::resolve(&blue.map, &blue.catalog, &green.catalog, &choices);
    let moved: BTreeSet<&str> = plan.moved.iter().map(|table| table.table.as_str()).collect();
    if let Some(unknown) = options.only.iter().find(|name| !moved.contains(name.as_str())) {
        return Err(Error::usage(format!("\"{unknown}\" is no table that is moved"))
            .remedy("Correct the name given with --table; inspect lists the tables."));
    }
    let names = &blue.map.names;
    let table = |name: &str| {
        let (on_blue, on_green) = (blue.catalog.tables.get(name)?, green.catalog.tables.get(name)?);
        let rules = blue.map.rules(name);
        let made =
            blue.map.bootstrap.iter().filter(|row| row.table == name && row.if_missing == IfMissing::Keep);
        let table = Table::new(on_blue, on_green, &rules, names).with_bootstrap(made);
        let Some(ids) = scope else { return Some(Arc::new(table)) };
        let own = names.workspaces.as_ref().filter(|own| own.table == name).map(|own| own.id.as_str());
        table.within(own.or(names.workspace_column.as_deref())?, ids.clone()).map(Arc::new)
    };
    let wanted = plan
        .moved
        .iter()
        .map(|table| table.table.as_str())
        .filter(|name| options.only.is_empty() || options.only.contains(*name));
    Ok(wanted.filter_map(table).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// What the proof must not lean on.
    const FORBIDDEN: &[&str] = &[
        "mapping::transcode",
        "mapping::conversion",
        "mapping::prefix",
        "mapping::json",
        "mapping::text",
        "mapping::pg_binary",
        "mapping::exhibit",
        "blue::cell",
        "green::stage",
        "green::checks",
        "green::apply",
    ];

    #[test]
    fn the_proof_does_not_use_what_it_proves() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/verify");
        for entry in std::fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a source");
            for word in FORBIDDEN {
                // The list itself is the one place where these words may stand.
                let uses = text.lines().filter(|line| !line.contains('"')).any(|line| line.contains(word));
                assert!(!uses, "{} uses {word}", path.display());
            }
        }
    }
}
