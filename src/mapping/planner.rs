//! Plans a keyspace: decides for each table of blue whether it is moved, and orders parents before children.

use crate::catalog::blue::{BlueCatalog, BlueTable};
use crate::catalog::green::{ForeignKey, GreenCatalog, GreenTable};

use super::schema_map::{CopyPolicy, SchemaMap, TableRules, Writer};
use super::table_plan::{KeyspacePlan, TableChoices, TablePlan, UnmovedTable};
use super::{resolver, validate_names};

impl KeyspacePlan {
    /// Resolves the plan of every table of blue.
    pub fn resolve(
        map: &SchemaMap,
        blue: &BlueCatalog,
        green: &GreenCatalog,
        choices: &TableChoices,
    ) -> KeyspacePlan {
        let mut plan = KeyspacePlan {
            moved: Vec::new(),
            not_moved: Vec::new(),
            only_green: Vec::new(),
            obstacles: Vec::new(),
        };
        for table in blue.tables.values() {
            let rules = map.rules(&table.name);
            match decide(&rules, table, green, choices) {
                TableDecision::Skip { reason, must_be_empty } => plan.not_moved.push(UnmovedTable {
                    table: table.name.clone(),
                    writer: rules.writer.unwrap_or(Writer::Admin),
                    reason,
                    must_be_empty,
                }),
                TableDecision::Move(green_table) => {
                    let (table_plan, obstacles) = resolver::resolve(map, &rules, table, green_table);
                    plan.obstacles.extend(obstacles);
                    plan.moved.push(table_plan);
                }
            }
        }
        // What the data plane writes is no reason to stop, and what is never moved is none either.
        let without_rows = |name: &&String| {
            let rules = map.rules(name);
            rules.copy != Some(CopyPolicy::Never)
                && rules.writer != Some(Writer::Traffic)
                && !choices.skip.contains(*name)
        };
        let only_green = green.tables.keys().filter(|name| !blue.tables.contains_key(*name));
        plan.only_green = only_green.filter(without_rows).cloned().collect();
        plan.obstacles.extend(validate_names::unknown_choices(choices, blue, green));
        plan.obstacles.extend(validate_names::never_moved(choices, map, &plan));
        plan.moved = parents_first(plan.moved, green);
        plan
    }
}

enum TableDecision<'a> {
    Move(&'a GreenTable),
    Skip { reason: String, must_be_empty: bool },
}

fn decide<'a>(
    rules: &TableRules,
    blue: &BlueTable,
    green: &'a GreenCatalog,
    choices: &TableChoices,
) -> TableDecision<'a> {
    let name = &blue.name;
    let on_green = green.tables.get(name);
    let leave =
        |reason: &str, must_be_empty| TableDecision::Skip { reason: reason.to_owned(), must_be_empty };
    if choices.skip.contains(name) {
        return leave("Left behind by --skip-table.", false);
    }
    let reason = rules.reason.as_deref().unwrap_or("Left behind by the schema map.");
    let copy = match rules.copy {
        Some(CopyPolicy::Never) if rules.only_if_missing == Some(true) && on_green.is_some() => {
            CopyPolicy::Always
        }
        copy => copy.unwrap_or(CopyPolicy::Always),
    };
    match (copy, on_green) {
        (CopyPolicy::Never, _) => leave(reason, false),
        (CopyPolicy::OnRequest, Some(_)) if !choices.include.contains(name) => {
            leave(&format!("{reason} --include-table {name} moves it."), false)
        }
        (CopyPolicy::OnRequest, None) if !choices.include.contains(name) => leave(reason, false),
        (_, Some(table)) => TableDecision::Move(table),
        (_, None) => leave("Green has no table of this name.", true),
    }
}

/// Orders tables so that every foreign key points backwards, as far as there are no cycles.
fn parents_first(mut plans: Vec<TablePlan>, green: &GreenCatalog) -> Vec<TablePlan> {
    let mut ordered: Vec<TablePlan> = Vec::with_capacity(plans.len());
    while !plans.is_empty() {
        let waits = |plan: &TablePlan| {
            let keys: &[ForeignKey] = green.tables.get(&plan.table).map_or(&[], |table| &table.foreign_keys);
            keys.iter()
                .any(|key| key.parent != plan.table && plans.iter().any(|other| other.table == key.parent))
        };
        let next = plans.iter().position(|plan| !waits(plan)).unwrap_or(0);
        ordered.push(plans.remove(next));
    }
    ordered
}
