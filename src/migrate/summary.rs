//! Builds the report of a run: what happened to every row of blue, table by table.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use crate::blue::session::Blue;
use crate::error::Result;
use crate::finding::Severity;
use crate::green::checks::CheckCounts;
use crate::green::merge::Forecast;
use crate::green::rows::AppliedTable;
use crate::green::session::Green;
use crate::green::sql::fill;
use crate::green::stage::Stage;
use crate::green::statement::{query, query_as};
use crate::inspect::Inspection;
use crate::mapping::table_plan::TablePlan;

use super::loaded::LoadedTable;
use super::report::{
    Changes, MigrationCounts, MigrationReport, MigrationTableReport, PhaseSeconds, RowGroup, RunOutcome,
};

/// What the report is built from.
pub struct ReportBuilder<'a> {
    pub id: Uuid,
    pub blue: &'a Blue,
    pub green: &'a Green,
    pub inspection: &'a Inspection,
    pub seconds: PhaseSeconds,
    pub outcome: RunOutcome,
    /// In an incremental run, what applying would write.
    pub forecast: Option<&'a BTreeMap<String, Forecast>>,
}

impl ReportBuilder<'_> {
    /// Builds the report. `applied` is known only once the rows are on green; until then every row that is neither
    /// rejected nor expired counts as applied.
    pub fn report(
        &self,
        loaded: &[LoadedTable],
        checked: &BTreeMap<String, CheckCounts>,
        applied: Option<&BTreeMap<String, AppliedTable>>,
        found: RejectsAndRepairs,
    ) -> MigrationReport {
        let moved = self.inspection.plan.moved.iter().zip(loaded);
        let mut tables: Vec<MigrationTableReport> = moved
            .map(|(plan, loaded)| {
                let checked = checked.get(&plan.table).copied().unwrap_or_default();
                let done = applied.and_then(|applied| applied.get(&plan.table)).copied();
                let forecast = self.forecast.and_then(|all| all.get(&plan.table)).copied();
                moved_table(plan, loaded, checked, done, forecast, &found)
            })
            .collect();
        tables.extend(self.not_moved());
        let mut totals = MigrationCounts::default();
        tables.iter().for_each(|table| totals.add(&table.counts));
        let mut changes = Changes::default();
        tables.iter().for_each(|table| changes.add(&table.changes));
        changes.deleted += self.cascaded(applied);
        let warnings =
            self.inspection.findings.iter().filter(|finding| finding.severity == Severity::Warning);
        MigrationReport {
            format: 1,
            run: self.id.to_string(),
            outcome: self.outcome,
            refusal: None,
            kong: self.inspection.blue.map.line.clone().unwrap_or_default(),
            edition: self.inspection.blue.meta.edition(),
            kongferry: env!("CARGO_PKG_VERSION"),
            blue: self.blue.into(),
            green: self.green.into(),
            incremental: self.forecast.is_some(),
            totals,
            changes,
            tables,
            rejects: found.rejects,
            repairs: found.repairs,
            notes: notes(self.inspection, loaded),
            manual_changes: Vec::new(),
            rejects_file: None,
            warnings: warnings.cloned().collect(),
            seconds: self.seconds,
            next: Vec::new(),
        }
    }

    /// Rows of tables that are not migrated, deleted with the row that they referred to.
    fn cascaded(&self, applied: Option<&BTreeMap<String, AppliedTable>>) -> u64 {
        let others = |(table, _): &(&String, &AppliedTable)| self.inspection.plan.table(table).is_none();
        applied.into_iter().flatten().filter(others).map(|(_, counts)| counts.deleted).sum()
    }

    fn not_moved(&self) -> impl Iterator<Item = MigrationTableReport> {
        self.inspection.plan.not_moved.iter().map(|table| {
            let rows = self.inspection.rows_not_migrated.get(&table.table).copied().unwrap_or(0);
            MigrationTableReport {
                table: table.table.clone(),
                writer: table.writer,
                counts: MigrationCounts { source: rows, not_copied: rows, ..MigrationCounts::default() },
                changes: Changes::default(),
                reason: Some(table.reason.clone()),
            }
        })
    }
}

fn moved_table(
    plan: &TablePlan,
    loaded: &LoadedTable,
    checked: CheckCounts,
    done: Option<AppliedTable>,
    forecast: Option<Forecast>,
    found: &RejectsAndRepairs,
) -> MigrationTableReport {
    let rejected = found.rejected(&plan.table);
    let unchanged = loaded.unchanged.saturating_sub(checked.dependents);
    let on_green = match done {
        Some(done) => done.applied + unchanged,
        None => loaded
            .source
            .saturating_sub(loaded.other_partition + loaded.deleted_workspace + loaded.expired)
            .saturating_sub(loaded.changed_on_green + rejected + checked.expired),
    };
    let changes = forecast.map_or_else(Changes::default, |planned| {
        let (inserted, updated, deleted) = match done {
            Some(done) => (done.inserted, done.updated, done.deleted),
            None => (planned.inserted, planned.updated, planned.deleted),
        };
        Changes { unchanged, inserted, updated, deleted }
    });
    let done = done.unwrap_or_default();
    let repaired = found.repaired.get(&plan.table).copied().unwrap_or(0) + loaded.unchanged_repaired;
    let repaired = repaired.min(on_green);
    MigrationTableReport {
        table: plan.table.clone(),
        writer: plan.writer,
        counts: MigrationCounts {
            source: loaded.source,
            applied: on_green - repaired,
            repaired,
            rejected,
            expired: loaded.expired + checked.expired + done.expired,
            not_copied: loaded.other_partition
                + loaded.deleted_workspace
                + loaded.changed_on_green
                + done.held_back,
        },
        changes,
        reason: not_copied_reason(loaded, &done),
    }
}

/// Rejected rows and repaired values in the stage.
#[derive(Debug, Default)]
pub struct RejectsAndRepairs {
    /// Rejected rows, per table and reason.
    pub rejects: Vec<RowGroup>,
    /// Repaired values, per table, column and repair.
    pub repairs: Vec<RowGroup>,
    /// Rows with a repaired value, per table.
    pub repaired: BTreeMap<String, u64>,
}

impl RejectsAndRepairs {
    pub async fn read(stage: &Stage) -> Result<RejectsAndRepairs> {
        let (rejects, repairs) = (stage.own("stage_reject"), stage.own("stage_repair"));
        let filled = |sql: &str| fill(sql, &[("rejects", &rejects), ("repairs", &repairs)]);
        let read = stage.green().read("cannot count rejects and repairs", async |tx| {
            let mut found = RejectsAndRepairs::default();
            let sql = filled(include_str!("../../sql/stage/reject_counts.sql"));
            for row in query(sql).fetch_all(&mut *tx).await? {
                found.rejects.push(group(&row, "reason", None)?);
            }
            let sql = filled(include_str!("../../sql/stage/repair_counts.sql"));
            for row in query(sql).fetch_all(&mut *tx).await? {
                found.repairs.push(group(&row, "repair", Some("column_name"))?);
            }
            let sql = filled(include_str!("../../sql/stage/repaired_rows.sql"));
            let rows: Vec<(String, i64)> = query_as(sql).fetch_all(tx).await?;
            let number = |(table, rows)| (table, u64::try_from(rows).unwrap_or(0));
            found.repaired = rows.into_iter().map(number).collect();
            Ok(found)
        });
        read.await
    }

    fn rejected(&self, table: &str) -> u64 {
        self.rejects.iter().filter(|group| group.table == table).map(|group| group.rows).sum()
    }
}

fn group(row: &sqlx::postgres::PgRow, reason: &str, column: Option<&str>) -> sqlx::Result<RowGroup> {
    let examples: Vec<String> = row.try_get("examples")?;
    let rows: i64 = row.try_get("rows")?;
    Ok(RowGroup {
        table: row.try_get("table_name")?,
        column: column.map(|name| row.try_get(name)).transpose()?,
        reason: row.try_get(reason)?,
        rows: u64::try_from(rows).unwrap_or(0),
        examples: examples.iter().map(|key| serde_json::from_str(key).unwrap_or(Value::Null)).collect(),
    })
}

fn notes(inspection: &Inspection, loaded: &[LoadedTable]) -> Vec<RowGroup> {
    let mut groups = Vec::new();
    for (plan, loaded) in inspection.plan.moved.iter().zip(loaded) {
        for ((column, note), (rows, keys)) in &loaded.notes {
            groups.push(RowGroup {
                table: plan.table.clone(),
                column: Some(column.clone()),
                reason: note.code().to_owned(),
                rows: *rows,
                examples: keys.iter().map(|key| Value::String(key.clone())).collect(),
            });
        }
    }
    groups
}

fn not_copied_reason(loaded: &LoadedTable, done: &AppliedTable) -> Option<String> {
    let mut reasons = Vec::new();
    if loaded.other_partition > 0 {
        reasons.push(format!("{} rows of a partition that Kong does not read", loaded.other_partition));
    }
    if loaded.deleted_workspace > 0 {
        reasons.push(format!("{} rows of deleted workspaces", loaded.deleted_workspace));
    }
    if done.held_back > 0 {
        reasons.push(format!(
            "{} rows have the value of another row that clients of green inserted",
            done.held_back
        ));
    }
    if loaded.changed_on_green > 0 {
        reasons
            .push(format!("{} rows that green's data plane has changed or deleted", loaded.changed_on_green));
    }
    (!reasons.is_empty()).then(|| format!("{}.", reasons.join("; ")))
}
