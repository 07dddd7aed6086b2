//! The merge of an incremental run: rows that differ are written, rows that blue lacks are deleted, all others are left
//! alone.
//!
//! Unique values of rows that change or are deleted are freed first, so that names can be swapped; then rows are
//! inserted, parents before children; deletions come last, children before parents, when no remaining row refers to
//! them. The ledger is updated in the same transaction.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::apply_context::{ApplyContext, ROWS_NAMED};
use super::bootstrap::BootstrapRows;
use super::conditions::{alive, same_key, same_numbered_key, same_row};
use super::deletions::{Deletions, blocked, is_deleted};
use super::ledger::{self, LocalChange, LocalChanges};
use super::rows::{AppliedTable, ExistingRows, insert_rows};
use super::session::During;
use super::sql::{columns, fill, key, quote};
use super::statement::{query_as, query_scalar};
use crate::catalog::green::{GreenTable, Index};
use crate::error::{Error, Result};
use crate::mapping::digest::Digest128;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

/// The rows that a run changes or deletes, by table and the digest of their key.
pub trait ChangedRows {
    fn contains(&self, table: &str, key: &Digest128) -> bool;
}

#[derive(Clone, Copy)]
pub struct Merge<'a> {
    pub context: ApplyContext<'a>,
    /// Rows of green that differed from the ledger when it was compared, by table.
    pub local_changes: &'a BTreeMap<String, LocalChanges>,
    pub changed_rows: &'a (dyn ChangedRows + Sync),
    /// Kong uses green meanwhile: only rows that change are locked.
    pub online: bool,
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("online", &self.online).finish_non_exhaustive()
    }
}

/// What a run would write into one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    pub inserted: u64,
    pub updated: u64,
    pub deleted: u64,
    /// Rows that were staged or are to be deleted, whether or not they differ.
    pub affected: u64,
}

/// Rows of one table that were changed manually on green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualChanges {
    pub table: String,
    /// `made`, `edited` or `removed`.
    pub change: String,
    pub rows: u64,
    /// Keys of some rows, as JSON text.
    pub keys: Vec<String>,
}

impl Merge<'_> {
    fn deletions(&self) -> Deletions<'_> {
        Deletions(self.context)
    }

    /// The holders that the statements about one table share.
    fn places(&self, table: &TablePlan) -> Vec<(&'static str, String)> {
        let (context, deletions) = (&self.context, self.deletions());
        let ours = match table.writer {
            Writer::Admin => String::new(),
            // A row that green wrote itself is kept: only rows of our runs are updated.
            Writer::Traffic => format!(
                "and exists (select from {} l where {})",
                ledger::relation(context.green(), &table.table),
                same_numbered_key(&table.key, "l", "g")
            ),
        };
        vec![
            ("table_ref", context.stage.kong_table(&table.table)),
            ("stage", context.stage.table(&table.table)),
            ("deletions", deletions.table(&table.table)),
            ("local_changes", deletions.local_changes(&table.table)),
            ("same_key", same_key(&table.key, "g", "s")),
            ("same_row", same_row(table)),
            ("alive", alive(table.expiry.as_deref(), "s")),
            ("is_deleted", context.table(&table.table).map_or_else(|| "false".to_owned(), is_deleted)),
            ("ours", ours),
            ("key", key(&table.key, "g")),
            ("own_key", columns(&table.key, "g")),
            ("staged_key", key(&table.key, "s")),
            ("changed_row", same_numbered_key(&table.key, "t", "g")),
            ("changed_staged", same_numbered_key(&table.key, "t", "s")),
            ("bootstrap", BootstrapRows(*context).is_bootstrap_row(table)),
            ("limit", ROWS_NAMED.to_string()),
        ]
    }

    fn has_local_changes(&self, table: &TablePlan) -> bool {
        self.local_changes.get(&table.table).is_some_and(|rows| !rows.is_empty())
    }

    /// Rows of `admin` tables that were made, edited or removed on green, and that blue does not explain.
    pub async fn manual_changes(&self, tx: &mut PgConnection) -> Result<Vec<ManualChanges>> {
        let mut found = Vec::new();
        let admin = self.context.plan.moved.iter().filter(|table| table.writer == Writer::Admin);
        for table in admin.filter(|table| self.has_local_changes(table)) {
            let action = format!("cannot read the rows of \"{}\" that were changed on green", table.table);
            let sql = filled(include_str!("../../sql/merge/manual_changes.sql"), &self.places(table));
            let rows: Vec<(String, String, i64)> =
                query_as(sql).fetch_all(&mut *tx).await.during(self.context.green(), &action)?;
            let mut by_change: BTreeMap<String, ManualChanges> = BTreeMap::new();
            for (change, key, rows) in rows {
                let changes = by_change.entry(change.clone()).or_insert_with(|| ManualChanges {
                    table: table.table.clone(),
                    change,
                    rows: number(rows),
                    keys: Vec::new(),
                });
                changes.keys.push(key);
            }
            found.extend(by_change.into_values());
        }
        Ok(found)
    }

    /// What applying would write, table by table.
    pub async fn forecast(&self, tx: &mut PgConnection) -> Result<BTreeMap<String, Forecast>> {
        let mut forecasts = BTreeMap::new();
        for table in self.context.plan.moved.iter().filter(|table| has_primary_key(&self.context, table)) {
            let action = format!("cannot count what would be written into \"{}\"", table.table);
            let sql = filled(include_str!("../../sql/merge/forecast.sql"), &self.places(table));
            let (inserted, updated, deleted, affected): (i64, i64, i64, i64) =
                query_as(sql).fetch_one(&mut *tx).await.during(self.context.green(), &action)?;
            let forecast = Forecast {
                inserted: number(inserted),
                updated: number(updated),
                deleted: number(deleted),
                affected: number(affected),
            };
            forecasts.insert(table.table.clone(), forecast);
        }
        Ok(forecasts)
    }

    /// Locks what the run changes, and fails if it was changed since it was compared. Returns the affected tables.
    pub(super) async fn lock(&self, tx: &mut PgConnection) -> Result<BTreeSet<String>> {
        let (context, green) = (&self.context, self.context.green());
        let action = "cannot lock Kong's tables on green";
        let mut affected = self.deletions().tables_with_deletions(tx).await?;
        for table in &context.plan.moved {
            if self.has_staged_rows(tx, table).await.during(green, action)? {
                affected.insert(table.table.clone());
            }
        }
        let tables: Vec<&TablePlan> =
            context.plan.moved.iter().filter(|table| affected.contains(&table.table)).collect();
        if self.online {
            // A session that waits for us may block others: give up soon and try again.
            sqlx::raw_sql("set local lock_timeout = '2s'").execute(&mut *tx).await.during(green, action)?;
            for table in &tables {
                let sql = filled(include_str!("../../sql/merge/lock_rows.sql"), &self.places(table));
                sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, action)?;
            }
        } else if !affected.is_empty() {
            let tables: Vec<String> = affected.iter().map(|table| context.stage.kong_table(table)).collect();
            let sql =
                fill("lock table {tables} in share row exclusive mode", &[("tables", &tables.join(", "))]);
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, action)?;
        }
        for table in tables.into_iter().filter(|table| table.writer == Writer::Admin) {
            self.check_unchanged(tx, table).await?;
        }
        Ok(affected)
    }

    async fn has_staged_rows(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<bool> {
        let stage = self.context.stage.table(&table.table);
        query_scalar(fill("select exists (select from {stage})", &[("stage", &stage)])).fetch_one(tx).await
    }

    async fn check_unchanged(&self, tx: &mut PgConnection, table: &TablePlan) -> Result<()> {
        let now = self.context.ledger.local_changes(self.context.green(), tx, table).await?;
        let none = LocalChanges::new();
        let before = self.local_changes.get(&table.table).unwrap_or(&none);
        let change = |rows: &LocalChanges, key: &Digest128| rows.get(key).map(|(change, _)| *change);
        let keys: BTreeSet<&Digest128> = now.keys().chain(before.keys()).collect();
        let is_affected = |key: &Digest128| !self.online || self.changed_rows.contains(&table.table, key);
        // A row that expired meanwhile was not changed by a client.
        let is_changed = |key: &&Digest128| match (change(before, key), change(&now, key)) {
            (before, now) if before == now => false,
            (Some(LocalChange::Edited | LocalChange::Inserted), None) if table.expiry.is_some() => false,
            _ => is_affected(key),
        };
        match keys.into_iter().filter(is_changed).count() {
            0 => Ok(()),
            rows => Err(Error::refused(format!(
                "another session changed {rows} rows of green's table \"{}\" during the run; nothing was applied",
                table.table
            ))
            .remedy("Run the command again: it compares these rows again.")),
        }
    }

    /// Merges the stage and deletes the rows that blue lacks.
    pub(super) async fn run(
        &self,
        tx: &mut PgConnection,
        affected: &BTreeSet<String>,
        forecast: &BTreeMap<String, Forecast>,
        progress: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let context = &self.context;
        let mut applied = BTreeMap::new();
        let tables: Vec<&TablePlan> =
            context.plan.moved.iter().filter(|table| affected.contains(&table.table)).collect();
        for table in &tables {
            let freed = self.free_unique_values(tx, table).await;
            freed.map_err(|e| context.refused_by_green(e, table))?;
        }
        for table in &tables {
            self.update(tx, table).await.map_err(|e| context.refused_by_green(e, table))?;
            let inserted = insert_rows(context, tx, table, ExistingRows::Possible).await;
            let mut counts = inserted.map_err(|e| context.refused_by_green(e, table))?;
            counts.inserted = counts.written;
            counts.updated = forecast.get(&table.table).map_or(0, |forecast| forecast.updated);
            counts.written += counts.updated;
            progress(&table.table, counts.written);
            applied.insert(table.table.clone(), counts);
        }
        let blocking = self.deletions().cascade(tx, true).await?;
        if !blocking.is_empty() {
            return Err(blocked(&blocking));
        }
        for (table, reasons) in self.deletions().delete(tx).await? {
            let counts: &mut AppliedTable = applied.entry(table).or_default();
            counts.deleted =
                reasons.iter().filter(|(reason, _)| *reason != "expired").map(|(_, rows)| rows).sum();
        }
        for table in tables.iter().filter(|table| !table.key.is_empty()) {
            let action = format!("cannot update the ledger of \"{}\"", table.table);
            let deletions = self.deletions().table(&table.table);
            ledger::delete(context.stage, tx, table, &deletions).await.during(context.green(), &action)?;
            ledger::insert(context.stage, tx, table, true).await.during(context.green(), &action)?;
        }
        Ok(applied)
    }

    async fn free_unique_values(&self, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
        let Some(table) = self.context.table(&plan.table) else { return Ok(()) };
        if plan.key.is_empty() || !self.has_staged_rows(tx, plan).await? {
            return Ok(());
        }
        let refers_to_table =
            |other: &GreenTable| other.foreign_keys.iter().any(|key| key.parent == plan.table);
        let is_parent = self.context.catalog.tables.values().any(refers_to_table);
        if let (Some(expiry), false) = (&plan.expiry, is_parent) {
            // Kong ignores expired rows, but they keep their unique values.
            let sql = fill(
                "delete from {table} where {expiry} <= now()",
                &[("table", &self.context.stage.kong_table(&plan.table)), ("expiry", &quote(expiry))],
            );
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
        let places = self.places(plan);
        for index in movable_unique_indexes(table) {
            let Some((column, value)) = self.freed_column(plan, table, index) else { continue };
            let mut places = places.clone();
            places.push(("freed", format!("{} = {value}", quote(column))));
            places.push(("parts", columns(&index.named, "g")));
            places.push(("staged_parts", columns(&index.named, "s")));
            let sql = filled(include_str!("../../sql/merge/free_unique_values.sql"), &places);
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
        Ok(())
    }

    /// The column by which the values of a unique index can be freed, and the expression that replaces it meanwhile.
    fn freed_column<'c>(
        &self,
        plan: &TablePlan,
        table: &'c GreenTable,
        index: &Index,
    ) -> Option<(&'c str, String)> {
        let workspace = self.context.map.names.workspace_column.as_deref();
        let is_reference =
            |name: &str| table.foreign_keys.iter().any(|key| key.columns.iter().any(|column| column == name));
        let mut candidates: Vec<_> = table
            .columns
            .iter()
            .filter(|column| index.named.contains(&column.name) && !plan.key.contains(&column.name))
            .filter(|column| Some(column.name.as_str()) != workspace)
            .collect();
        candidates.sort_by_key(|column| (is_reference(&column.name), column.not_null));
        candidates.into_iter().find_map(|column| {
            let name = column.name.as_str();
            if !column.not_null && index.nulls_distinct {
                return Some((name, "null".to_owned()));
            }
            let unique_text = "'kongferry ' || g.ctid::text || ' ' || txid_current()::text";
            (column.column_type == "text" && !is_reference(name)).then(|| (name, unique_text.to_owned()))
        })
    }

    async fn update(&self, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<()> {
        let values = plan.columns.iter().filter(|column| !plan.key.contains(&column.name));
        let assignment = |name: &String| {
            let column = quote(name);
            if plan.expiry.as_ref() == Some(name) {
                format!(
                    "{column} = case when abs(extract(epoch from s.{column} - g.{column})) <= 2 then g.{column} else s.{column} end"
                )
            } else {
                format!("{column} = s.{column}")
            }
        };
        let assignments: Vec<String> = values.map(|column| assignment(&column.name)).collect();
        if assignments.is_empty() || plan.key.is_empty() {
            return Ok(());
        }
        let mut places = self.places(plan);
        places.push(("assignments", assignments.join(",\n    ")));
        let sql = filled(include_str!("../../sql/merge/update.sql"), &places);
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    /// A query for the ids in these tables that the run wrote or deleted; empty where there are none.
    pub(super) fn written_ids(&self, tables: &[&GreenTable]) -> String {
        let mut queries = Vec::new();
        for table in tables {
            let Some(primary) = table.primary_key.first() else { continue };
            if self.context.plan.table(&table.name).is_some() {
                let stage = self.context.stage.table(&table.name);
                queries.push(format!("select {} from {stage}", quote(primary)));
            }
            queries.push(format!("select key_1 from {}", self.deletions().table(&table.name)));
        }
        queries.join(" union all ")
    }
}

/// The refusal of tables with neither a primary key nor a unique index on green that have rows, or are about to. Two of
/// their rows may be equal in every column, so a run after the first one cannot tell which of them was made manually.
pub async fn missing_primary_key(context: &ApplyContext<'_>, tx: &mut PgConnection) -> Result<Option<Error>> {
    for table in context.plan.moved.iter().filter(|table| !has_primary_key(context, table)) {
        let action = format!("cannot read green's table \"{}\"", table.table);
        let mut relations = vec![context.stage.kong_table(&table.table), context.stage.table(&table.table)];
        if context.ledger.contains(&table.table) {
            relations.push(ledger::relation(context.green(), &table.table));
        }
        for relation in relations {
            let sql = fill("select exists (select from {relation})", &[("relation", &relation)]);
            if query_scalar(sql).fetch_one(&mut *tx).await.during(context.green(), &action)? {
                return Ok(Some(no_primary_key(context, table)));
            }
        }
    }
    Ok(None)
}

fn has_primary_key(context: &ApplyContext<'_>, table: &TablePlan) -> bool {
    let is_key = |on_green: &GreenTable| !table.key.is_empty() && on_green.primary_key == table.key;
    context.table(&table.table).is_some_and(is_key)
}

fn no_primary_key(context: &ApplyContext<'_>, table: &TablePlan) -> Error {
    let name = &table.table;
    let key = if table.key.is_empty() {
        "(…)".to_owned()
    } else {
        format!("({})", columns(&table.key, "").replace(", ", ","))
    };
    Error::refused(format!(
        "green's table \"{name}\" has no primary key: a run after the first one cannot tell which of its rows changed"
    ))
    .remedy(format!(
        "Give it blue's primary key on green: ALTER TABLE {} ADD PRIMARY KEY {key}; or exclude it with --skip-table {name}.",
        context.stage.kong_table(name)
    ))
}

/// Unique indexes whose values may move from row to row: not the primary key, and none that contains it.
fn movable_unique_indexes(table: &GreenTable) -> impl Iterator<Item = &Index> {
    let has_primary_key =
        |index: &&Index| table.primary_key.iter().all(|column| index.columns.contains(column));
    table.indexes.iter().filter(move |index| index.unique && !index.primary && !has_primary_key(index))
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn filled(template: &str, places: &[(&'static str, String)]) -> sqlx::AssertSqlSafe<String> {
    let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fill(template, &places)
}

/// The refusal that names the manual changes.
pub fn changed_manually(found: &[ManualChanges]) -> Error {
    let tables: BTreeSet<String> = found.iter().map(|changes| format!("\"{}\"", changes.table)).collect();
    let mut error = Error::refused(format!(
        "green was changed manually: rows of {} are neither as kongferry wrote them nor as they are on blue",
        tables.into_iter().collect::<Vec<_>>().join(", ")
    ))
    .remedy(
        "Make the same change on blue, or undo it on green, and run the command again; or pass --replace, which undoes all \
         of them after a confirmation.",
    );
    for changes in found {
        let more = changes.rows.saturating_sub(changes.keys.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        error = error.detail(format!(
            "{}, {} on green: {}{more}",
            changes.table,
            changes.change,
            changes.keys.join(", ")
        ));
    }
    error
}
