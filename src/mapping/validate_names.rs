//! Names given by hand that fit nothing: on the command line, in a user's own schema map. Whoever gave them would believe
//! that they were heeded, so each is an obstacle.

use std::collections::BTreeSet;

use crate::catalog::blue::BlueCatalog;
use crate::catalog::green::GreenCatalog;

use super::schema_map::{CopyPolicy, KeyPart, Required, SchemaMap, TableRules, WhenNull};
use super::table_plan::{KeyspacePlan, Obstacle, TableChoices};

/// A table named on the command line that neither side has is a slip of the pen, and slips are not ignored.
pub(super) fn unknown_choices(
    choices: &TableChoices,
    blue: &BlueCatalog,
    green: &GreenCatalog,
) -> Vec<Obstacle> {
    let known = |name: &&String| blue.tables.contains_key(*name) || green.tables.contains_key(*name);
    let unknown = choices.skip.iter().chain(&choices.include).filter(|name| !known(name));
    let remedy = "Correct the name given with --skip-table or --include-table.";
    unknown
        .map(|name| Obstacle::new(format!("there is no table \"{name}\" on either side"), remedy))
        .collect()
}

/// A table that was asked for and does not move for all that: whoever asked would believe that it did.
pub(super) fn never_moved(choices: &TableChoices, map: &SchemaMap, plan: &KeyspacePlan) -> Vec<Obstacle> {
    let never = |name: &&String| {
        map.rules(name).copy == Some(CopyPolicy::Never)
            && plan.table(name).is_none()
            && !choices.skip.contains(*name)
    };
    let obstacle = |name: &String| {
        let rules = map.rules(name);
        let reason = rules.reason.as_deref().unwrap_or("It is left behind by the schema map.");
        Obstacle::new(
            format!("the table \"{name}\" is never moved, though --include-table asks for it"),
            format!("{reason} Leave out --include-table {name}."),
        )
    };
    choices.include.iter().filter(never).map(obstacle).collect()
}

/// A table or column in a user's own map that neither side has is a slip of the pen too. Built-in maps may name what
/// only some databases of a line have.
pub fn unknown_names(maps: &[SchemaMap], blue: &BlueCatalog, green: &GreenCatalog) -> Vec<Obstacle> {
    let mut unknown = BTreeSet::new();
    // A name that ends in * stands for tables that only some databases have.
    for (name, rules) in maps.iter().flat_map(|map| &map.tables).filter(|(name, _)| !name.ends_with('*')) {
        let (on_blue, on_green) = (blue.tables.get(name), green.tables.get(name));
        if on_blue.is_none() && on_green.is_none() {
            unknown.insert(format!("there is no table \"{name}\" on either side"));
            continue;
        }
        let known = |column: &str| {
            on_blue.is_some_and(|table| table.column(column).is_some())
                || on_green.is_some_and(|table| table.column(column).is_some())
        };
        for column in names_of(rules).into_iter().filter(|column| !known(column)) {
            unknown.insert(format!("there is no column \"{name}.{column}\" on either side"));
        }
    }
    let remedy = "Correct the name in the file given with --schema-map.";
    unknown.into_iter().map(|problem| Obstacle::new(problem, remedy)).collect()
}

/// Every column that the rules of a table name.
fn names_of(rules: &TableRules) -> Vec<&str> {
    let mut names: Vec<&str> = rules.columns.keys().map(String::as_str).collect();
    names.extend(rules.partition.iter().map(|partition| partition.column.as_str()));
    names.extend(rules.expiry.iter().flat_map(|expiry| [expiry.start.as_str(), expiry.period.as_str()]));
    for required in rules.required.iter().flatten() {
        match required {
            Required::Column(name) => names.push(name),
            Required::OneOf(group) => names.extend(group.iter().map(String::as_str)),
        }
    }
    for column in rules.columns.values() {
        for part in column.cache_key.iter().flatten() {
            if let KeyPart::Column(name) = part {
                names.push(name);
            }
        }
        if let Some(WhenNull::Sha256OfCertificate(name)) = &column.when_null {
            names.push(name);
        }
    }
    names
}
