//! The tables that are compared, decided from the two catalogs and not from the plan that `migrate` follows.

use std::collections::BTreeSet;

use super::last_run::LastRun;
use super::options::VerifyOptions;
use super::prefixed_columns::PrefixedColumns;
use super::reading_rules::ReadingRules;
use crate::catalog::green::GreenCatalog;
use crate::error::{Error, Result};
use crate::inspect::{BlueSide, GreenSide};
use crate::mapping::schema_map::{CopyPolicy, IfMissing};

/// The reading rules of every compared table, parents first; with `workspaces`, of rows of these workspaces only.
pub(super) fn compared(
    blue: &BlueSide,
    green: &GreenSide,
    options: &VerifyOptions,
    run: &LastRun,
    workspaces: Option<&BTreeSet<[u8; 16]>>,
    active_keys: &BTreeSet<String>,
) -> Result<Vec<ReadingRules>> {
    let on_both = blue.catalog.tables.keys().filter(|name| green.catalog.tables.contains_key(*name));
    let is_moved = |name: &&str| is_moved(name, blue, options, run);
    let moved = parents_first(on_both.map(String::as_str).filter(is_moved).collect(), &green.catalog);
    if let Some(unknown) = options.only_tables.iter().find(|name| !moved.contains(&name.as_str())) {
        return Err(Error::usage(format!("\"{unknown}\" is not a table that is migrated"))
            .remedy("Correct the name given with --table; inspect lists the tables."));
    }
    let is_wanted = |name: &&str| options.only_tables.is_empty() || options.only_tables.contains(*name);
    let prefixes = PrefixedColumns::of_map(&blue.map, blue.meta.is_enterprise())?;
    let rules = |name: &str| {
        let rules = reading_rules(name, blue, green, &prefixes, workspaces)?;
        let workspaces = blue.workspaces.iter().map(|(id, _)| *id);
        Some(rules.with_active_keys(active_keys).with_workspaces(workspaces))
    };
    Ok(moved.into_iter().filter(is_wanted).filter_map(rules).collect())
}

/// A table on both sides is moved unless the schema map or the operator excludes it. What is moved on request only is
/// compared where the last run moved it.
fn is_moved(name: &str, blue: &BlueSide, options: &VerifyOptions, run: &LastRun) -> bool {
    let rules = blue.map.rules(name);
    let choices = &options.choices.tables;
    if choices.skip.contains(name) {
        return false;
    }
    match rules.copy {
        None | Some(CopyPolicy::Always) => true,
        Some(CopyPolicy::OnRequest) => choices.include.contains(name) || run.moved.contains(name),
        Some(CopyPolicy::Never) => rules.only_if_missing == Some(true),
    }
}

/// Orders tables so that every foreign key refers to an earlier table, except within a cycle.
fn parents_first<'n>(mut names: Vec<&'n str>, green: &GreenCatalog) -> Vec<&'n str> {
    let mut ordered = Vec::with_capacity(names.len());
    while !names.is_empty() {
        let has_later_parent = |name: &&str| {
            let keys = green.tables.get(*name).into_iter().flat_map(|table| &table.foreign_keys);
            keys.into_iter().any(|key| key.parent != **name && names.contains(&key.parent.as_str()))
        };
        let next = names.iter().position(|name| !has_later_parent(name)).unwrap_or(0);
        ordered.push(names.remove(next));
    }
    ordered
}

fn reading_rules(
    name: &str,
    blue: &BlueSide,
    green: &GreenSide,
    prefixes: &PrefixedColumns,
    workspaces: Option<&BTreeSet<[u8; 16]>>,
) -> Option<ReadingRules> {
    let (on_blue, on_green) = (blue.catalog.tables.get(name)?, green.catalog.tables.get(name)?);
    let names = &blue.map.names;
    let bootstrap = blue.map.bootstrap.iter();
    let kept = bootstrap.filter(|row| row.table == name && row.if_missing == IfMissing::Keep);
    let rules = ReadingRules::new(on_blue, on_green, &blue.map.rules(name), names, prefixes);
    let rules = rules.with_bootstrap(kept);
    let Some(ids) = workspaces else { return Some(rules) };
    // A row of the table of workspaces belongs to the workspace that it is.
    let own_id = names.workspaces.as_ref().filter(|own| own.table == name).map(|own| own.id.as_str());
    rules.within(own_id.or(names.workspace_column.as_deref())?, ids.clone())
}
