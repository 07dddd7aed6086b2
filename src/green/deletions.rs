//! The rows that leave green in an incremental run, and everything that hangs on them.
//!
//! What leaves is known whole before anything is written: what blue deleted, what it rejects now, what was made by hand
//! and is replaced – and, over every reference between green's tables, what would go by a cascade or hold up the
//! deletion. A row that nobody explains in that closure stops the run.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::ledger::{self, Ledger, LocalChanges, named};
use super::sql::{columns, fill, key, literal, quote};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::catalog::green::{ForeignKey, GreenCatalog, GreenTable};
use crate::error::{Error, Result};
use crate::green::session::During;
use crate::mapping::pg_binary;
use crate::mapping::schema_map::{SchemaMap, Writer};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// Rows named for one table.
const NAMED: usize = 5;

/// Everything that decides what leaves.
#[derive(Debug, Clone, Copy)]
pub struct Deletions<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// What is moved.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// The line's schema map.
    pub map: &'a SchemaMap,
    /// What earlier runs wrote.
    pub ledger: &'a Ledger,
    /// Whether rows that were made by hand may go.
    pub replace: bool,
}

/// Rows of one table that nobody explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InTheWay {
    /// Their table.
    pub table: String,
    /// Keys of some of them, as JSON text.
    pub keys: Vec<String>,
}

impl<'a> Deletions<'a> {
    /// The table of the keys that leave one of Kong's tables, quoted.
    pub fn table(&self, table: &str) -> String {
        self.stage.own(&named("stage_gone_", table))
    }

    /// The table of the keys that somebody touched, quoted.
    pub fn touched(&self, table: &str) -> String {
        self.stage.own(&named("stage_touched_", table))
    }

    /// Makes the areas for every table that rows may leave.
    pub async fn create(&self) -> Result<()> {
        let action = "cannot create the tables of rows to delete from green";
        let create = self.stage.green().write(action, async |tx| {
            for table in self.tables() {
                let keys = table.primary_key.iter().enumerate();
                let keys: Vec<String> =
                    keys.map(|(at, name)| format!("g.{} as key_{}", quote(name), at + 1)).collect();
                let sql = fill(
                    include_str!("../../sql/merge/areas.sql"),
                    &[
                        ("gone", &self.table(&table.name)),
                        ("touched", &self.touched(&table.name)),
                        ("keys", &keys.join(", ")),
                        ("table_ref", &self.stage.kong_table(&table.name)),
                    ],
                );
                sqlx::raw_sql(sql).execute(&mut *tx).await?;
            }
            Ok(())
        });
        create.await
    }

    /// Tables whose rows can be told apart, parents before children as far as there are no cycles.
    fn tables(&self) -> Vec<&'a GreenTable> {
        let mut left: Vec<&GreenTable> =
            self.catalog.tables.values().filter(|table| !table.primary_key.is_empty()).collect();
        let mut ordered = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let waits = |table: &&GreenTable| {
                let is_left = |key: &ForeignKey| {
                    key.parent != table.name && left.iter().any(|other| other.name == key.parent)
                };
                table.foreign_keys.iter().any(is_left)
            };
            let next = left.iter().position(|table| !waits(table)).unwrap_or(0);
            ordered.push(left.remove(next));
        }
        ordered
    }

    /// Copies keys into the area of rows that leave, or that were touched, with a word each.
    pub async fn copy_keys<'k>(
        &self,
        area: &str,
        plan: &TablePlan,
        rows: impl Iterator<Item = (&'static str, &'k [u8])>,
    ) -> Result<()> {
        let green = self.stage.green();
        let action = format!("cannot record which rows of \"{}\" to delete from green", plan.table);
        let fields = i16::try_from(plan.key.len() + 1).unwrap_or(i16::MAX);
        let copy = green.write(&action, async |tx| {
            let mut bytes = Vec::from(pg_binary::HEADER);
            let mut copy = tx.copy_in_raw(&format!("copy {area} from stdin (format binary)")).await?;
            for (word, row) in rows {
                if bytes.len() > 1 << 20 {
                    copy.send(bytes.as_slice()).await?;
                    bytes.clear();
                }
                pg_binary::row(&mut bytes, fields);
                bytes.extend_from_slice(row);
                bytes.extend(i32::try_from(word.len()).unwrap_or(0).to_be_bytes());
                bytes.extend_from_slice(word.as_bytes());
            }
            bytes.extend(pg_binary::TRAILER);
            copy.send(bytes.as_slice()).await?;
            copy.finish().await?;
            sqlx::raw_sql(fill("analyze {area}", &[("area", area)])).execute(tx).await?;
            Ok(())
        });
        copy.await
    }

    /// Notes the rows of a table that somebody touched.
    pub async fn note_touched(&self, plan: &TablePlan, touched: &LocalChanges) -> Result<()> {
        if touched.is_empty() {
            return Ok(());
        }
        let rows = touched.values().map(|(touch, key)| (touch.word(), key.as_slice()));
        self.copy_keys(&self.touched(&plan.table), plan, rows).await
    }

    /// Rows that no run of ours wrote leave under this condition: the bootstrap's, and by `--replace` all of them. Says
    /// how many.
    pub async fn replace_made(&self, plan: &TablePlan, leaves: &str) -> Result<u64> {
        let green = self.stage.green();
        let action = format!("cannot record which rows of \"{}\" are replaced", plan.table);
        let sql = fill(
            include_str!("../../sql/merge/replaced.sql"),
            &[
                ("gone", &self.table(&plan.table)),
                ("touched", &self.touched(&plan.table)),
                ("touched_keys", &ledger::key_columns(plan, "t").join(", ")),
                ("table_ref", &self.stage.kong_table(&plan.table)),
                ("touched_row", &ledger::same_key(plan, "t", "g")),
                ("touched_staged", &ledger::same_key(plan, "t", "s")),
                ("leaves", leaves),
                ("stage", &self.stage.table(&plan.table)),
            ],
        );
        let insert =
            green.write(&action, async |tx| Ok(sqlx::raw_sql(sql).execute(tx).await?.rows_affected()));
        insert.await
    }

    /// Stages rows of a table that are unchanged themselves but hang on rows that leave; says how many.
    pub async fn pull_in(&self, tx: &mut PgConnection, plan: &TablePlan) -> sqlx::Result<u64> {
        let Some(table) = self.catalog.tables.get(&plan.table) else { return Ok(0) };
        let Some(referring) = self.referring(tx, table).await? else { return Ok(0) };
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        let places = [
            ("stage", self.stage.table(&plan.table)),
            ("gone", self.table(&plan.table)),
            ("ledger", ledger::relation(self.stage.green(), &plan.table)),
            ("table_ref", self.stage.kong_table(&plan.table)),
            ("columns", columns(&names, "")),
            ("present", columns(&names, "g")),
            ("known", ledger::same_key(plan, "l", "g")),
            ("referring", referring),
            ("same_key", super::apply::same_key(plan)),
            ("leaving", self.leaving(table)),
            ("present_keys", self.keys(table)),
            (
                "not_ours",
                format!(
                    "and not exists (select from {} l where {})\n  and not exists (select from {} s where {})",
                    ledger::relation(self.stage.green(), &plan.table),
                    ledger::same_key(plan, "l", "g"),
                    self.stage.table(&plan.table),
                    super::apply::same_key(plan)
                ),
            ),
        ];
        let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if plan.writer == Writer::Traffic {
            sqlx::raw_sql(fill(include_str!("../../sql/merge/cascaded.sql"), &places))
                .execute(&mut *tx)
                .await?;
        }
        let pulled =
            sqlx::raw_sql(fill(include_str!("../../sql/merge/pull_in.sql"), &places)).execute(tx).await?;
        Ok(pulled.rows_affected())
    }

    /// Follows the references into tables that are not moved, and names every row that nobody explains. `applying` is
    /// the last look, when rows that were moved to another parent refer to it already.
    pub async fn close(&self, tx: &mut PgConnection, applying: bool) -> Result<Vec<InTheWay>> {
        let mut found = Vec::new();
        let what = |table: &GreenTable| {
            format!("cannot look for rows of \"{}\" that hang on rows that leave", table.name)
        };
        for table in self.tables() {
            let referring = self.referring(tx, table).await;
            let referring = referring.during(self.stage.green(), &what(table))?;
            let Some(referring) = referring else { continue };
            let plan = self.plan.table(&table.name);
            let goes_along = plan.is_none() && (self.replace || self.writer(&table.name) == Writer::Traffic);
            let late = applying && self.writer(&table.name) == Writer::Traffic;
            if goes_along || late {
                self.cascade(tx, table, &referring).await.during(self.stage.green(), &what(table))?;
            }
            let keys = self
                .unexplained(tx, table, &referring, applying)
                .await
                .during(self.stage.green(), &what(table))?;
            if !keys.is_empty() {
                found.push(InTheWay { table: table.name.clone(), keys });
            }
        }
        for table in self.catalog.tables.values().filter(|table| table.primary_key.is_empty()) {
            let referring = self.referring(tx, table).await;
            let referring = referring.during(self.stage.green(), &what(table))?;
            let Some(referring) = referring else { continue };
            let sql = fill(
                "select exists (select from {table} g where {referring})",
                &[("table", &self.stage.kong_table(&table.name)), ("referring", &referring)],
            );
            let there: bool =
                query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), &what(table))?;
            if there {
                found.push(InTheWay { table: table.name.clone(), keys: Vec::new() });
            }
        }
        Ok(found)
    }

    async fn cascade(&self, tx: &mut PgConnection, table: &GreenTable, referring: &str) -> sqlx::Result<()> {
        let sql = fill(
            include_str!("../../sql/merge/cascaded.sql"),
            &[
                ("gone", &self.table(&table.name)),
                ("present_keys", &self.keys(table)),
                ("table_ref", &self.stage.kong_table(&table.name)),
                ("referring", referring),
                ("leaving", &self.leaving(table)),
                ("not_ours", ""),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    async fn unexplained(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
        referring: &str,
        applying: bool,
    ) -> sqlx::Result<Vec<String>> {
        let mut stays = format!(
            "and not exists (select from {} d where {})",
            self.table(&table.name),
            self.leaving(table)
        );
        if let (false, Some(plan)) = (applying, self.plan.table(&table.name)) {
            stays.push_str(&format!(
                "\n  and not exists (select from {} s where {})",
                self.stage.table(&table.name),
                super::apply::same_key(plan)
            ));
        }
        let sql = fill(
            include_str!("../../sql/merge/in_the_way.sql"),
            &[
                ("key", &key(&table.primary_key, "g")),
                ("table_ref", &self.stage.kong_table(&table.name)),
                ("referring", referring),
                ("stays", &stays),
                ("limit", &(NAMED + 1).to_string()),
            ],
        );
        query_scalar(sql).fetch_all(tx).await
    }

    /// Deletes what leaves, children first; per table and reason how many rows went.
    pub async fn leave(&self, tx: &mut PgConnection) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
        let mut counts = BTreeMap::new();
        for table in self.tables().into_iter().rev() {
            let sql = fill(
                include_str!("../../sql/merge/leave.sql"),
                &[
                    ("table_ref", &self.stage.kong_table(&table.name)),
                    ("gone", &self.table(&table.name)),
                    ("leaving", &self.leaving(table)),
                ],
            );
            let what = format!("cannot delete rows of \"{}\"", table.name);
            let rows: Vec<(String, i64)> = super::statement::query_as(sql)
                .fetch_all(&mut *tx)
                .await
                .during(self.stage.green(), &what)?;
            if !rows.is_empty() {
                let number = |(why, rows): (String, i64)| (why, u64::try_from(rows).unwrap_or(0));
                counts.insert(table.name.clone(), rows.into_iter().map(number).collect());
            }
        }
        Ok(counts)
    }

    /// Tables that rows leave.
    pub async fn left_by(&self, tx: &mut PgConnection) -> Result<BTreeSet<String>> {
        let mut left = BTreeSet::new();
        for table in self.tables() {
            let sql = fill("select exists (select from {gone})", &[("gone", &self.table(&table.name))]);
            let what = "cannot look which rows leave green";
            let some: bool = query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), what)?;
            if some {
                left.insert(table.name.clone());
            }
        }
        Ok(left)
    }

    fn writer(&self, table: &str) -> Writer {
        self.map.tables.get(table).and_then(|rules| rules.writer).unwrap_or(Writer::Admin)
    }

    /// That a row `g` of this table refers to a row that leaves; nothing where it refers to no table that rows leave.
    async fn referring(&self, tx: &mut PgConnection, table: &GreenTable) -> sqlx::Result<Option<String>> {
        let mut parts = Vec::new();
        for foreign in &table.foreign_keys {
            let parent = self.catalog.tables.get(&foreign.parent).filter(|p| !p.primary_key.is_empty());
            let Some(parent) = parent else { continue };
            let sql = fill("select exists (select from {gone})", &[("gone", &self.table(&parent.name))]);
            if query_scalar(sql).fetch_one(&mut *tx).await? {
                parts.push(self.referring_by(foreign, parent));
            }
        }
        Ok((!parts.is_empty()).then(|| parts.join("\n   or ")))
    }

    fn referring_by(&self, foreign: &ForeignKey, parent: &GreenTable) -> String {
        let pairs: Vec<String> = foreign
            .columns
            .iter()
            .zip(&foreign.parent_columns)
            .map(|(child, parent)| format!("p.{} = g.{}", quote(parent), quote(child)))
            .collect();
        let leaving: Vec<String> = parent
            .primary_key
            .iter()
            .enumerate()
            .map(|(at, name)| format!("x.key_{} = p.{}", at + 1, quote(name)))
            .collect();
        format!(
            "exists (select from {} x join {} p on {} where {})",
            self.table(&parent.name),
            self.stage.kong_table(&parent.name),
            leaving.join(" and "),
            pairs.join(" and ")
        )
    }

    /// That a row `g` of this table is the one that `d` says leaves.
    pub fn leaving(&self, table: &GreenTable) -> String {
        let pair = |(at, name): (usize, &String)| format!("d.key_{} = g.{}", at + 1, quote(name));
        table.primary_key.iter().enumerate().map(pair).collect::<Vec<_>>().join(" and ")
    }

    fn keys(&self, table: &GreenTable) -> String {
        columns(&table.primary_key, "g")
    }
}

/// The sentence about rows that would vanish unseen.
pub fn in_the_way(found: &[InTheWay]) -> Error {
    let tables: Vec<String> = found.iter().map(|one| literal(&one.table).replace('\'', "\"")).collect();
    let mut error = Error::refused(format!(
        "rows that were made by hand on green hang on rows that blue has no longer, in {}",
        tables.join(", ")
    ))
    .remedy("Delete them on green or move them to another parent, and run the command again; or let them go with --replace.");
    for one in found {
        let mut keys = one.keys.clone();
        let more = if keys.len() > NAMED { " and more" } else { "" };
        keys.truncate(NAMED);
        error = error.detail(format!("{}: {}{more}", one.table, keys.join(", ")));
    }
    error
}
