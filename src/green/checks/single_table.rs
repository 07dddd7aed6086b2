//! Checks of a single table: expiry, duplicates, exclusion and CHECK constraints, index rows that are too large.

use sqlx::PgConnection;

use super::Checks;
use super::check_sql::{CheckSql, column_list};
use super::prescan::{CANDIDATES, Prescan, covered};
use crate::catalog::green::{GreenTable, Index};
use crate::green::conditions::alive;
use crate::green::deletions::Deletions;
use crate::green::sql::{columns, key, literal, own_table_name, quote};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

impl Checks<'_> {
    /// Runs these checks; returns how many rows had expired.
    pub(super) async fn check_rows(
        &self,
        tx: &mut PgConnection,
        plan: &TablePlan,
        table: &GreenTable,
    ) -> sqlx::Result<u64> {
        let check = CheckSql::new(self.context.stage, plan, self.deletions());
        let expired = match &plan.expiry {
            Some(column) => {
                check
                    .count(tx, include_str!("../../../sql/checks/expired.sql"), &[("expiry", &quote(column))])
                    .await?
            }
            None => 0,
        };
        let unique: Vec<&Index> = unique_indexes(table)
            .filter(|index| self.incremental || !is_unique_on_blue(plan, index))
            .collect();
        let prescan =
            Prescan::run(tx, &check, table, &unique, self.context.stage.green().hashes_rows()).await?;
        let mut found = 0;
        for index in unique {
            let repeated = prescan.repeated.iter().any(|candidate| candidate.name == index.name);
            found += self.check_unique(tx, &check, plan, index, repeated).await?;
        }
        for index in table.indexes.iter().filter(|index| !index.exclusion.is_empty()) {
            found += check_exclusion(tx, &check, index).await?;
        }
        for constraint in &table.checks {
            let places =
                [("constraint", literal(&constraint.name)), ("expression", constraint.expression.clone())];
            let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
            found +=
                check.execute(tx, include_str!("../../../sql/checks/check_constraint.sql"), &places).await?;
        }
        for (index, length, candidates) in &prescan.long {
            self.probe_index(tx, &check, plan, index, length).await?;
            found += candidates;
        }
        if found > 0 {
            check.reject(tx).await?;
        }
        Ok(expired)
    }

    /// Lets PostgreSQL itself decide about rows that may be too long for an index.
    async fn probe_index(
        &self,
        tx: &mut PgConnection,
        check: &CheckSql,
        plan: &TablePlan,
        index: &Index,
        length: &str,
    ) -> sqlx::Result<u64> {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let places = [
            ("length", length),
            ("candidates", CANDIDATES),
            ("definition", &index.definition),
            ("columns", &column_list(&index.named)),
            ("index", &literal(&index.name)),
            ("probe", &self.context.stage.own(&own_table_name("stage_probe_", &plan.table))),
            ("table_ref", &self.context.stage.kong_table(&plan.table)),
            ("all_columns", &columns(&names, "")),
        ];
        check.execute(tx, include_str!("../../../sql/checks/index_probe.sql"), &places).await
    }

    /// Rows that violate one unique index of green: several staged ones, or one beside a row that remains on green. A row
    /// that green already has with this value was there first.
    async fn check_unique(
        &self,
        tx: &mut PgConnection,
        check: &CheckSql,
        plan: &TablePlan,
        index: &Index,
        repeated: bool,
    ) -> sqlx::Result<u64> {
        let Some(deletions) = self.deletions() else {
            return if repeated { find_duplicates(tx, check, index, "false").await } else { Ok(0) };
        };
        let parts_of = |alias: &str| {
            (0..index.expressions.len()).map(|at| format!("{alias}.part_{at}")).collect::<Vec<_>>()
        };
        let key_is = |alias: &str| {
            let keys = plan.key.iter().enumerate();
            let pairs = keys.map(|(at, name)| format!("{alias}.own_{at} = s.{}", quote(name)));
            pairs.collect::<Vec<_>>().join(" and ")
        };
        let on_green = format!(
            "exists (select from (select {}, {} from {} where {}) o where {} and ({}) is not distinct from ({}))",
            numbered_key(plan, ""),
            numbered_parts(index),
            self.context.stage.kong_table(&plan.table),
            covered(index),
            key_is("o"),
            parts_of("o").join(", "),
            index.expressions.join(", ")
        );
        let found = if repeated { find_duplicates(tx, check, index, &on_green).await? } else { 0 };
        if plan.writer == Writer::Traffic {
            // Merged by key: green's row is kept, and the staged row is held back when applying.
            return Ok(found);
        }
        Ok(found + self.find_conflicts(tx, check, plan, index, &deletions).await?)
    }

    /// Rows whose unique value belongs to another row that remains on green.
    async fn find_conflicts(
        &self,
        tx: &mut PgConnection,
        check: &CheckSql,
        plan: &TablePlan,
        index: &Index,
        deletions: &Deletions<'_>,
    ) -> sqlx::Result<u64> {
        let equal = if index.nulls_distinct { "=" } else { "is not distinct from" };
        let equal_parts: Vec<String> =
            (0..index.expressions.len()).map(|at| format!("m.part_{at} {equal} g.part_{at}")).collect();
        let other_key: Vec<String> =
            (0..plan.key.len()).map(|at| format!("m.own_{at} is distinct from g.own_{at}")).collect();
        let restaged: Vec<String> =
            plan.key.iter().enumerate().map(|(at, name)| format!("s.{} = g.own_{at}", quote(name))).collect();
        let is_deleted: Vec<String> =
            (0..plan.key.len()).map(|at| format!("d.key_{} = g.own_{at}", at + 1)).collect();
        let places = [
            ("staged_keys", numbered_key(plan, "s.")),
            ("green_keys", numbered_key(plan, "")),
            ("green_key_json", key(&plan.key, "k").replace("k.", "")),
            ("alive", alive(plan.expiry.as_deref(), "k").replace("k.", "")),
            ("named_parts", numbered_parts(index)),
            ("covered", covered(index)),
            ("table_ref", self.context.stage.kong_table(&plan.table)),
            ("equal_parts", equal_parts.join(" and ")),
            ("other_key", other_key.join(" or ")),
            ("restaged", restaged.join(" and ")),
            ("is_deleted", is_deleted.join(" and ")),
            ("deletions", deletions.table(&plan.table)),
            ("columns", column_list(&index.named)),
        ];
        let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        check.execute(tx, include_str!("../../../sql/checks/conflicts_on_green.sql"), &places).await
    }
}

/// The parts of an index's entry, as columns `part_0`, `part_1` and so on.
fn numbered_parts(index: &Index) -> String {
    let parts = index.expressions.iter().enumerate();
    parts.map(|(at, part)| format!("({part}) as part_{at}")).collect::<Vec<_>>().join(", ")
}

/// The key of a row, as columns `own_0`, `own_1` and so on. `alias` ends in a dot, or is empty.
fn numbered_key(plan: &TablePlan, alias: &str) -> String {
    let names = plan.key.iter().enumerate();
    names.map(|(at, name)| format!("{alias}{} as own_{at}", quote(name))).collect::<Vec<_>>().join(", ")
}

/// Whether blue's primary key already makes these values unique, as in most tables.
fn is_unique_on_blue(plan: &TablePlan, index: &Index) -> bool {
    plan.identity
        .as_ref()
        .is_some_and(|identity| identity.iter().all(|column| index.columns.contains(column)))
}

async fn find_duplicates(
    tx: &mut PgConnection,
    check: &CheckSql,
    index: &Index,
    on_green: &str,
) -> sqlx::Result<u64> {
    let (parts, covered) = (index.expressions.join(", "), covered(index));
    let is_repeated = if index.nulls_distinct {
        check.fill(
            include_str!("../../../sql/checks/duplicate_values.sql"),
            &[("parts", &parts), ("covered", &covered)],
        )
    } else {
        sqlx::AssertSqlSafe("true".to_owned())
    };
    let places = [
        ("parts", parts.as_str()),
        ("covered", &covered),
        ("is_repeated", &is_repeated.0),
        ("on_green", on_green),
        ("columns", &column_list(&index.named)),
    ];
    check.execute(tx, include_str!("../../../sql/checks/duplicates.sql"), &places).await
}

async fn check_exclusion(tx: &mut PgConnection, check: &CheckSql, index: &Index) -> sqlx::Result<u64> {
    let pairs = index.exclusion.iter().enumerate();
    let excluded: Vec<String> =
        pairs.map(|(at, operator)| format!("m.part_{at} {operator} o.part_{at}")).collect();
    let places = [
        ("named_parts", numbered_parts(index)),
        ("excluded", excluded.join(" and ")),
        ("covered", covered(index)),
        ("columns", column_list(&index.named)),
    ];
    let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
    check.execute(tx, include_str!("../../../sql/checks/exclusion.sql"), &places).await
}

/// Unique indexes that can refuse something: one that covers the primary key and more refuses nothing of its own.
fn unique_indexes(table: &GreenTable) -> impl Iterator<Item = &Index> {
    let primary = &table.primary_key;
    let implied = |index: &&Index| {
        !index.primary
            && !primary.is_empty()
            && index.columns.len() == index.expressions.len()
            && primary.iter().all(|column| index.columns.contains(column))
    };
    table.indexes.iter().filter(move |index| index.unique && index.exclusion.is_empty() && !implied(index))
}
