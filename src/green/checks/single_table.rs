//! What a table's rows show by themselves: expiry, duplicates, CHECK constraints, index rows too large.

use sqlx::PgConnection;

use super::Checks;
use super::check_sql::{Place, shown};
use super::prescan::{CANDIDATES, Glance, covered};
use crate::catalog::green::{GreenTable, Index};
use crate::green::ledger;
use crate::green::sql::{columns, key, literal, quote};
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

impl Checks<'_> {
    /// Runs these checks; says how many rows had expired.
    pub(super) async fn alone(
        &self,
        tx: &mut PgConnection,
        plan: &TablePlan,
        table: &GreenTable,
    ) -> sqlx::Result<u64> {
        let place = Place::new(self.stage, plan, self.gone);
        let gone = match &plan.expiry {
            Some(column) => {
                place
                    .count(tx, include_str!("../../../sql/checks/expired.sql"), &[("expiry", &quote(column))])
                    .await?
            }
            None => 0,
        };
        let unique: Vec<&Index> =
            unique_indexes(table).filter(|index| self.gone.is_some() || !told_apart(plan, index)).collect();
        let glance = Glance::take(tx, &place, table, &unique, self.stage.green().hashes_rows()).await?;
        let mut found = 0;
        for index in unique {
            let repeated = glance.repeated.iter().any(|one| one.name == index.name);
            found += self.duplicates(tx, &place, plan, index, repeated).await?;
        }
        for index in table.indexes.iter().filter(|index| !index.exclusion.is_empty()) {
            found += excluded(tx, &place, index).await?;
        }
        for check in &table.checks {
            let places = [("constraint", literal(&check.name)), ("expression", check.expression.clone())];
            let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
            found +=
                place.execute(tx, include_str!("../../../sql/checks/check_constraint.sql"), &places).await?;
        }
        for (index, length, candidates) in &glance.long {
            self.probe_index(tx, &place, plan, index, length).await?;
            found += candidates;
        }
        if found > 0 {
            place.set_aside(tx).await?;
        }
        Ok(gone)
    }

    /// Asks PostgreSQL itself about rows that may be too long for an index.
    async fn probe_index(
        &self,
        tx: &mut PgConnection,
        place: &Place,
        plan: &TablePlan,
        index: &Index,
        length: &str,
    ) -> sqlx::Result<u64> {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let places = [
            ("length", length),
            ("candidates", CANDIDATES),
            ("definition", &index.definition),
            ("columns", &shown(&index.named)),
            ("index", &literal(&index.name)),
            ("probe", &self.stage.own(&ledger::named("stage_probe_", &plan.table))),
            ("table_ref", &self.stage.kong_table(&plan.table)),
            ("all_columns", &columns(&names, "")),
        ];
        place.execute(tx, include_str!("../../../sql/checks/index_probe.sql"), &places).await
    }

    /// Rows that hold what one unique index of green allows only once: several staged ones, or one beside a row of green
    /// that stays. One that green holds with this very value already was there first.
    async fn duplicates(
        &self,
        tx: &mut PgConnection,
        place: &Place,
        plan: &TablePlan,
        index: &Index,
        repeated: bool,
    ) -> sqlx::Result<u64> {
        let Some(gone) = &self.gone else {
            return if repeated { duplicates(tx, place, index, "false").await } else { Ok(0) };
        };
        let named: Vec<String> =
            index.expressions.iter().enumerate().map(|(at, part)| format!("({part}) as part_{at}")).collect();
        let present = |alias: &str| {
            plan.key
                .iter()
                .enumerate()
                .map(|(at, name)| format!("{alias}{} as own_{at}", quote(name)))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let pair = |one: &str, other: &str, operator: &str| {
            let pairs = (0..plan.key.len()).map(|at| format!("{one}.own_{at} {operator} {other}.own_{at}"));
            pairs.collect::<Vec<_>>()
        };
        let own_parts = (0..index.expressions.len()).map(|at| format!("o.part_{at}")).collect::<Vec<_>>();
        let same_row =
            plan.key.iter().enumerate().map(|(at, name)| format!("o.own_{at} = s.{}", quote(name)));
        let standing = format!(
            "exists (select from (select {}, {} from {} where {}) o where {} and ({}) is not distinct from ({}))",
            present(""),
            named.join(", "),
            self.stage.kong_table(&plan.table),
            covered(index),
            same_row.collect::<Vec<_>>().join(" and "),
            own_parts.join(", "),
            index.expressions.join(", ")
        );
        let found = if repeated { duplicates(tx, place, index, &standing).await? } else { 0 };
        if plan.writer == Writer::Traffic {
            // Merged by key: what green holds stays, and the apply holds the staged row back.
            return Ok(found);
        }
        let equal = if index.nulls_distinct { "=" } else { "is not distinct from" };
        let equal_parts = (0..index.expressions.len())
            .map(|at| format!("m.part_{at} {equal} g.part_{at}"))
            .collect::<Vec<_>>();
        let restaged =
            plan.key.iter().enumerate().map(|(at, name)| format!("s.{} = g.own_{at}", quote(name)));
        let leaving = (0..plan.key.len()).map(|at| format!("d.key_{} = g.own_{at}", at + 1));
        let places = [
            ("staged_keys", present("s.")),
            ("present_keys", present("")),
            ("present_shown", key(&plan.key, "k").replace("k.", "")),
            ("present_alive", ledger::alive(plan.expiry.as_deref(), "k").replace("k.", "")),
            ("named_parts", named.join(", ")),
            ("covered", covered(index)),
            ("table_ref", self.stage.kong_table(&plan.table)),
            ("equal_parts", equal_parts.join(" and ")),
            ("other_key", pair("m", "g", "is distinct from").join(" or ")),
            ("restaged", restaged.collect::<Vec<_>>().join(" and ")),
            ("leaving", leaving.collect::<Vec<_>>().join(" and ")),
            ("gone", gone.table(&plan.table)),
            ("columns", shown(&index.named)),
        ];
        let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(found + place.execute(tx, include_str!("../../../sql/checks/taken.sql"), &places).await?)
    }
}

/// What tells rows apart on blue cannot be the same in two of them; most tables have such a primary key.
fn told_apart(plan: &TablePlan, index: &Index) -> bool {
    plan.identity
        .as_ref()
        .is_some_and(|identity| identity.iter().all(|column| index.columns.contains(column)))
}

async fn duplicates(
    tx: &mut PgConnection,
    place: &Place,
    index: &Index,
    standing: &str,
) -> sqlx::Result<u64> {
    let (parts, covered) = (index.expressions.join(", "), covered(index));
    let repeated = if index.nulls_distinct {
        place.fill(
            include_str!("../../../sql/checks/repeated.sql"),
            &[("parts", &parts), ("covered", &covered)],
        )
    } else {
        sqlx::AssertSqlSafe("true".to_owned())
    };
    let places = [
        ("parts", parts.as_str()),
        ("covered", &covered),
        ("repeated", &repeated.0),
        ("standing", standing),
        ("columns", &shown(&index.named)),
    ];
    place.execute(tx, include_str!("../../../sql/checks/duplicates.sql"), &places).await
}

async fn excluded(tx: &mut PgConnection, place: &Place, index: &Index) -> sqlx::Result<u64> {
    let parts = index.expressions.iter().enumerate();
    let named: Vec<String> = parts.map(|(at, part)| format!("({part}) as part_{at}")).collect();
    let pairs = index.exclusion.iter().enumerate();
    let excluded: Vec<String> =
        pairs.map(|(at, operator)| format!("m.part_{at} {operator} o.part_{at}")).collect();
    let places = [
        ("named_parts", named.join(", ")),
        ("excluded", excluded.join(" and ")),
        ("covered", covered(index)),
        ("columns", shown(&index.named)),
    ];
    let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
    place.execute(tx, include_str!("../../../sql/checks/exclusion.sql"), &places).await
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
