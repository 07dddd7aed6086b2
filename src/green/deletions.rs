//! The rows that an incremental run deletes from green, and everything that refers to them.
//!
//! They are known completely before anything is written: rows that blue deleted, rows that the run rejects, manual
//! changes that are replaced and, over every foreign key between green's tables, rows that a cascade would delete or that
//! would block the deletion. A row among the latter that was made on green stops the run.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::apply_context::{ApplyContext, ROWS_NAMED};
use super::conditions::{as_numbered_key, numbered_key, same_key, same_numbered_key};
use super::ledger::{self, LocalChanges};
use super::session::During;
use super::sql::{columns, fill, key, own_table_name, quote};
use super::statement::{query_as, query_scalar};
use crate::catalog::green::{ForeignKey, GreenTable};
use crate::error::{Error, Result};
use crate::mapping::pg_binary;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

#[derive(Debug, Clone, Copy)]
pub struct Deletions<'a>(pub ApplyContext<'a>);

/// Rows of one table that block deletions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockingRows {
    pub table: String,
    /// Keys of some of them, as JSON text.
    pub keys: Vec<String>,
}

impl<'a> Deletions<'a> {
    /// The table of the keys that are deleted from one of Kong's tables, quoted.
    pub fn table(&self, table: &str) -> String {
        self.0.stage.own(&own_table_name("stage_delete_", table))
    }

    /// The table of the keys that were changed locally, quoted.
    pub(super) fn local_changes(&self, table: &str) -> String {
        self.0.stage.own(&own_table_name("stage_changed_", table))
    }

    /// Creates these two tables for every table with a primary key.
    pub async fn create(&self) -> Result<()> {
        let action = "cannot create the tables of rows to delete from green";
        let create = self.0.green().write(action, async |tx| {
            for table in self.tables() {
                let sql = fill(
                    include_str!("../../sql/merge/create.sql"),
                    &[
                        ("deletions", &self.table(&table.name)),
                        ("local_changes", &self.local_changes(&table.name)),
                        ("keys", &as_numbered_key(&table.primary_key, "g")),
                        ("table_ref", &self.0.stage.kong_table(&table.name)),
                    ],
                );
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
            Ok(())
        });
        create.await
    }

    /// Tables with a primary key, parents before children as far as there are no cycles.
    fn tables(&self) -> Vec<&'a GreenTable> {
        let mut remaining: Vec<&GreenTable> =
            self.0.catalog.tables.values().filter(|table| !table.primary_key.is_empty()).collect();
        let mut ordered = Vec::with_capacity(remaining.len());
        while !remaining.is_empty() {
            let waits = |table: &&GreenTable| {
                let is_remaining = |key: &ForeignKey| {
                    key.parent != table.name && remaining.iter().any(|other| other.name == key.parent)
                };
                table.foreign_keys.iter().any(is_remaining)
            };
            let next = remaining.iter().position(|table| !waits(table)).unwrap_or(0);
            ordered.push(remaining.remove(next));
        }
        ordered
    }

    /// Copies keys into the table of deletions or of local changes, with a reason or a kind of change each.
    pub async fn copy_keys<'k>(
        &self,
        into: &str,
        plan: &TablePlan,
        rows: impl Iterator<Item = (&'static str, &'k [u8])>,
    ) -> Result<()> {
        let action = format!("cannot record which rows of \"{}\" to delete from green", plan.table);
        let fields = i16::try_from(plan.key.len() + 1).unwrap_or(i16::MAX);
        let copy = self.0.green().write(&action, async |tx| {
            let mut bytes = Vec::from(pg_binary::HEADER);
            let mut copy = tx.copy_in_raw(&format!("copy {into} from stdin (format binary)")).await?;
            for (code, row) in rows {
                if bytes.len() > 1 << 20 {
                    copy.send(bytes.as_slice()).await?;
                    bytes.clear();
                }
                pg_binary::row(&mut bytes, fields);
                bytes.extend_from_slice(row);
                bytes.extend(i32::try_from(code.len()).unwrap_or(0).to_be_bytes());
                bytes.extend_from_slice(code.as_bytes());
            }
            bytes.extend(pg_binary::TRAILER);
            copy.send(bytes.as_slice()).await?;
            copy.finish().await?;
            sqlx::raw_sql(fill("analyze {table}", &[("table", into)])).execute(tx).await?;
            Ok(())
        });
        copy.await
    }

    pub async fn record_local_changes(&self, plan: &TablePlan, changes: &LocalChanges) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let rows = changes.values().map(|(change, key)| (change.as_str(), key.as_slice()));
        self.copy_keys(&self.local_changes(&plan.table), plan, rows).await
    }

    /// Marks rows that none of our runs wrote for deletion under this condition; returns how many.
    pub async fn replace(&self, plan: &TablePlan, is_replaced: &str) -> Result<u64> {
        let action = format!("cannot record which rows of \"{}\" are replaced", plan.table);
        let sql = fill(
            include_str!("../../sql/merge/replace.sql"),
            &[
                ("deletions", &self.table(&plan.table)),
                ("local_changes", &self.local_changes(&plan.table)),
                ("changed_keys", &numbered_key(&plan.key, "t").join(", ")),
                ("table_ref", &self.0.stage.kong_table(&plan.table)),
                ("changed_row", &same_numbered_key(&plan.key, "t", "g")),
                ("changed_staged", &same_numbered_key(&plan.key, "t", "s")),
                ("is_replaced", is_replaced),
                ("stage", &self.0.stage.table(&plan.table)),
            ],
        );
        let insert = self
            .0
            .green()
            .write(&action, async |tx| Ok(sqlx::raw_sql(sql).execute(tx).await?.rows_affected()));
        insert.await
    }

    /// Stages rows of a table that are unchanged themselves but refer to rows that are deleted; returns how many.
    pub(super) async fn stage_dependents(
        &self,
        tx: &mut PgConnection,
        plan: &TablePlan,
    ) -> sqlx::Result<u64> {
        let Some(table) = self.0.table(&plan.table) else { return Ok(0) };
        let Some(refers_to_deleted) = self.refers_to_deleted(tx, table).await? else { return Ok(0) };
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let (stage, ledger) =
            (self.0.stage.table(&plan.table), ledger::relation(self.0.green(), &plan.table));
        let (in_ledger, same_key) = (same_numbered_key(&plan.key, "l", "g"), same_key(&plan.key, "g", "s"));
        let not_ours = format!(
            "and not exists (select from {ledger} l where {in_ledger})\n  and not exists (select from {stage} s where {same_key})"
        );
        let places = [
            ("stage", stage.as_str()),
            ("deletions", &self.table(&plan.table)),
            ("ledger", &ledger),
            ("table_ref", &self.0.stage.kong_table(&plan.table)),
            ("columns", &columns(&names, "")),
            ("green_columns", &columns(&names, "g")),
            ("in_ledger", &in_ledger),
            ("refers_to_deleted", &refers_to_deleted),
            ("same_key", &same_key),
            ("is_deleted", &is_deleted(table)),
            ("green_keys", &columns(&table.primary_key, "g")),
            ("not_ours", &not_ours),
        ];
        if plan.writer == Writer::Traffic {
            let sql = fill(include_str!("../../sql/merge/cascade.sql"), &places);
            sqlx::raw_sql(sql).execute(&mut *tx).await?;
        }
        let sql = fill(include_str!("../../sql/merge/stage_dependents.sql"), &places);
        Ok(sqlx::raw_sql(sql).execute(tx).await?.rows_affected())
    }

    /// Cascades into tables that are not moved, and finds the rows that block deletions. While `applying`, rows that
    /// were moved to another parent refer to it already.
    pub async fn cascade(&self, tx: &mut PgConnection, applying: bool) -> Result<Vec<BlockingRows>> {
        let mut found = Vec::new();
        for table in self.tables() {
            let action = references_action(table);
            let condition = self.refers_to_deleted(tx, table).await.during(self.0.green(), &action)?;
            let Some(condition) = condition else { continue };
            let is_moved = self.0.plan.table(&table.name).is_some();
            let is_traffic = self.writer(&table.name) == Writer::Traffic;
            if (!is_moved && (self.0.replace || is_traffic)) || (applying && is_traffic) {
                self.cascade_into(tx, table, &condition).await.during(self.0.green(), &action)?;
            }
            let keys = self.blocking_keys(tx, table, &condition, applying).await;
            let keys = keys.during(self.0.green(), &action)?;
            if !keys.is_empty() {
                found.push(BlockingRows { table: table.name.clone(), keys });
            }
        }
        for table in self.0.catalog.tables.values().filter(|table| table.primary_key.is_empty()) {
            let action = references_action(table);
            let condition = self.refers_to_deleted(tx, table).await.during(self.0.green(), &action)?;
            let Some(condition) = condition else { continue };
            let sql = fill(
                "select exists (select from {table} g where {condition})",
                &[("table", &self.0.stage.kong_table(&table.name)), ("condition", &condition)],
            );
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.0.green(), &action)? {
                found.push(BlockingRows { table: table.name.clone(), keys: Vec::new() });
            }
        }
        Ok(found)
    }

    async fn cascade_into(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
        refers_to_deleted: &str,
    ) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/merge/cascade.sql"),
            &[
                ("deletions", &self.table(&table.name)),
                ("green_keys", &columns(&table.primary_key, "g")),
                ("table_ref", &self.0.stage.kong_table(&table.name)),
                ("refers_to_deleted", refers_to_deleted),
                ("is_deleted", &is_deleted(table)),
                ("not_ours", ""),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    async fn blocking_keys(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
        refers_to_deleted: &str,
        applying: bool,
    ) -> sqlx::Result<Vec<String>> {
        let mut not_deleted =
            format!("and not exists (select from {} d where {})", self.table(&table.name), is_deleted(table));
        if let (false, Some(plan)) = (applying, self.0.plan.table(&table.name)) {
            not_deleted.push_str(&format!(
                "\n  and not exists (select from {} s where {})",
                self.0.stage.table(&table.name),
                same_key(&plan.key, "g", "s")
            ));
        }
        let sql = fill(
            include_str!("../../sql/merge/blocking_rows.sql"),
            &[
                ("key", &key(&table.primary_key, "g")),
                ("table_ref", &self.0.stage.kong_table(&table.name)),
                ("refers_to_deleted", refers_to_deleted),
                ("not_deleted", &not_deleted),
                ("limit", &(ROWS_NAMED + 1).to_string()),
            ],
        );
        query_scalar(sql).fetch_all(tx).await
    }

    /// Deletes the rows, children first; returns how many per table and reason.
    pub(super) async fn delete(
        &self,
        tx: &mut PgConnection,
    ) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let mut counts = BTreeMap::new();
        for table in self.tables().into_iter().rev() {
            let sql = fill(
                include_str!("../../sql/merge/delete.sql"),
                &[
                    ("table_ref", &self.0.stage.kong_table(&table.name)),
                    ("deletions", &self.table(&table.name)),
                    ("is_deleted", &is_deleted(table)),
                ],
            );
            let action = format!("cannot delete rows of \"{}\"", table.name);
            let rows: Vec<(String, i64)> =
                query_as(sql).fetch_all(&mut *tx).await.during(self.0.green(), &action)?;
            if !rows.is_empty() {
                let number = |(reason, rows): (String, i64)| (reason, u64::try_from(rows).unwrap_or(0));
                counts.insert(table.name.clone(), rows.into_iter().map(number).collect());
            }
        }
        Ok(counts)
    }

    pub(super) async fn tables_with_deletions(&self, tx: &mut PgConnection) -> Result<BTreeSet<String>> {
        let mut tables = BTreeSet::new();
        for table in self.tables() {
            let has_deletions = self.has_deletions(tx, table).await;
            if has_deletions.during(self.0.green(), "cannot read which rows to delete from green")? {
                tables.insert(table.name.clone());
            }
        }
        Ok(tables)
    }

    async fn has_deletions(&self, tx: &mut PgConnection, table: &GreenTable) -> sqlx::Result<bool> {
        let sql = fill("select exists (select from {deletions})", &[("deletions", &self.table(&table.name))]);
        query_scalar(sql).fetch_one(tx).await
    }

    fn writer(&self, table: &str) -> Writer {
        self.0.map.tables.get(table).and_then(|rules| rules.writer).unwrap_or(Writer::Admin)
    }

    /// That a row `g` of this table refers to a row that is deleted; `None` where no parent table has deletions.
    async fn refers_to_deleted(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
    ) -> sqlx::Result<Option<String>> {
        let mut conditions = Vec::new();
        for foreign in &table.foreign_keys {
            let parent = self.0.table(&foreign.parent).filter(|parent| !parent.primary_key.is_empty());
            let Some(parent) = parent else { continue };
            if self.has_deletions(tx, parent).await? {
                conditions.push(self.refers_to_deleted_by(foreign, parent));
            }
        }
        Ok((!conditions.is_empty()).then(|| conditions.join("\n   or ")))
    }

    fn refers_to_deleted_by(&self, foreign: &ForeignKey, parent: &GreenTable) -> String {
        let pairs = foreign.columns.iter().zip(&foreign.parent_columns);
        let joined: Vec<String> =
            pairs.map(|(child, parent)| format!("p.{} = g.{}", quote(parent), quote(child))).collect();
        format!(
            "exists (select from {} x join {} p on {} where {})",
            self.table(&parent.name),
            self.0.stage.kong_table(&parent.name),
            same_numbered_key(&parent.primary_key, "x", "p"),
            joined.join(" and ")
        )
    }
}

/// That a row `d` of the deletions is about the row `g` of this table.
pub(super) fn is_deleted(table: &GreenTable) -> String {
    same_numbered_key(&table.primary_key, "d", "g")
}

fn references_action(table: &GreenTable) -> String {
    format!("cannot read the rows of \"{}\" that refer to rows that are deleted", table.name)
}

/// The refusal that names the rows that block deletions.
pub fn blocked(found: &[BlockingRows]) -> Error {
    let tables: Vec<String> = found.iter().map(|rows| format!("\"{}\"", rows.table)).collect();
    let mut error = Error::refused(format!(
        "rows that were inserted on green refer to rows that were deleted on blue, in {}",
        tables.join(", ")
    ))
    .remedy(
        "Delete them on green, or change what they refer to, and run the command again; or pass --replace, which deletes them.",
    );
    for rows in found {
        let more = if rows.keys.len() > ROWS_NAMED { " and more" } else { "" };
        let keys: Vec<&str> = rows.keys.iter().take(ROWS_NAMED).map(String::as_str).collect();
        error = error.detail(format!("{}: {}{more}", rows.table, keys.join(", ")));
    }
    error
}
