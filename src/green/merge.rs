//! The merge of an incremental run: what changed is written, what left is deleted, and nothing else is touched.
//!
//! Unique values of rows that change or leave are freed first, so that names may be swapped; then rows go in, parents
//! before children; what leaves goes last, children before parents, when nothing that stays refers to it any more. The
//! same transaction brings the ledger up to date.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::apply::{AppliedTable, Apply, Holds, same_key, same_row};
use super::deletions::{Deletions, in_the_way};
use super::ledger::{self, Ledger, LocalChange, LocalChanges};
use super::sql::{columns, fill, key, literal, quote};
use super::statement::{query_as, query_scalar};
use crate::catalog::green::{GreenTable, Index};
use crate::error::{Error, Result};
use crate::green::session::During;
use crate::mapping::digest::Digest128;
use crate::mapping::schema_map::Writer;
use crate::mapping::table_plan::TablePlan;

/// Rows named for one table.
const NAMED: usize = 5;

/// What an incremental run knows beyond its stage.
#[derive(Clone, Copy)]
pub struct Merge<'a> {
    /// What leaves.
    pub gone: Deletions<'a>,
    /// What earlier runs wrote.
    pub ledger: &'a Ledger,
    /// What was touched on green when it was looked at first.
    pub touched: &'a BTreeMap<String, LocalChanges>,
    /// Whether this row of a table is one that the run changes.
    pub at_work: &'a (dyn Fn(&str, &Digest128) -> bool + Sync),
    /// Only rows that change are locked: Kong runs on green.
    pub online: bool,
}

impl std::fmt::Debug for Merge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Merge").field("online", &self.online).finish_non_exhaustive()
    }
}

/// What would be written into one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Rows that green has not yet.
    pub inserted: u64,
    /// Rows that it has otherwise.
    pub updated: u64,
    /// Rows that leave it.
    pub deleted: u64,
    /// Rows that were read again, or are noted to leave.
    pub at_work: u64,
}

/// Rows of one table that somebody changed on green.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// The table.
    pub table: String,
    /// What was done: `made`, `edited` or `removed`.
    pub touch: String,
    /// How many rows.
    pub rows: u64,
    /// Keys of some rows, as JSON text.
    pub keys: Vec<String>,
}

impl Apply<'_> {
    /// The holders that the statements about one table share.
    pub(super) fn places(&self, merge: &Merge<'_>, table: &TablePlan) -> Vec<(&'static str, String)> {
        let own = merge.gone.catalog.tables.get(&table.table);
        let ours = match table.writer {
            Writer::Admin => String::new(),
            // Green's own row stays: only what we wrote is written again.
            Writer::Traffic => format!(
                "and exists (select from {} l where {})",
                ledger::relation(self.stage.green(), &table.table),
                ledger::same_key(table, "l", "g")
            ),
        };
        vec![
            ("table_ref", self.stage.kong_table(&table.table)),
            ("stage", self.stage.table(&table.table)),
            ("gone", merge.gone.table(&table.table)),
            ("touched", merge.gone.touched(&table.table)),
            ("same_key", same_key(table)),
            ("same_row", same_row(table)),
            ("alive", ledger::alive(table.expiry.as_deref(), "s")),
            ("leaving", own.map_or_else(|| "false".to_owned(), |own| merge.gone.leaving(own))),
            ("ours", ours),
            ("key", key(&table.key, "g")),
            ("own_key", columns(&table.key, "g")),
            ("staged_key", key(&table.key, "s")),
            ("touched_row", ledger::same_key(table, "t", "g")),
            ("touched_staged", ledger::same_key(table, "t", "s")),
            ("bootstrap", self.made_by_bootstrap(table)),
            ("limit", NAMED.to_string()),
        ]
    }

    /// Rows that somebody made, edited or removed on green, and that blue does not explain.
    pub async fn by_hand(&self, tx: &mut PgConnection, merge: &Merge<'_>) -> Result<Vec<ByHand>> {
        let mut found = Vec::new();
        let admin = self.plan.moved.iter().filter(|table| table.writer == Writer::Admin);
        for table in
            admin.filter(|table| merge.touched.get(&table.table).is_some_and(|rows| !rows.is_empty()))
        {
            let what = format!("cannot look for rows of \"{}\" that were changed on green", table.table);
            let sql = filled(include_str!("../../sql/merge/by_hand.sql"), &self.places(merge, table));
            let rows: Vec<(String, String, i64)> =
                query_as(sql).fetch_all(&mut *tx).await.during(self.stage.green(), &what)?;
            let mut by_touch: BTreeMap<String, ByHand> = BTreeMap::new();
            for (touch, key, rows) in rows {
                let one = by_touch.entry(touch.clone()).or_insert_with(|| ByHand {
                    table: table.table.clone(),
                    touch,
                    rows: number(rows),
                    keys: Vec::new(),
                });
                one.keys.push(key);
            }
            found.extend(by_touch.into_values());
        }
        Ok(found)
    }

    /// Tables without a primary key on green that hold rows, or are about to. Two rows there may be the same in all they
    /// have, so nobody could say which of them was made by hand: an incremental run leaves no doubt, and stops.
    pub async fn without_key(&self, tx: &mut PgConnection) -> Result<Option<Error>> {
        for table in self.plan.moved.iter().filter(|table| !self.has_key(table)) {
            let what = format!("cannot look into green's table \"{}\"", table.table);
            let mut places = vec![self.stage.kong_table(&table.table), self.stage.table(&table.table)];
            if self.ledger.knows(&table.table) {
                places.push(ledger::relation(self.stage.green(), &table.table));
            }
            for place in places {
                let sql = fill("select exists (select from {table})", &[("table", &place)]);
                let found: bool =
                    query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), &what)?;
                if found {
                    return Ok(Some(self.no_key(table)));
                }
            }
        }
        Ok(None)
    }

    fn has_key(&self, table: &TablePlan) -> bool {
        self.catalog.tables.get(&table.table).is_some_and(|own| !own.primary_key.is_empty())
    }

    fn no_key(&self, table: &TablePlan) -> Error {
        let name = &table.table;
        let key = if table.key.is_empty() {
            "(…)".to_owned()
        } else {
            format!("({})", columns(&table.key, "").replace(", ", ","))
        };
        Error::refused(format!(
            "green's table \"{name}\" has no primary key: which of its rows changed cannot be told in a run after the first one"
        ))
        .remedy(format!(
            "Give it the key that blue has, on green: ALTER TABLE {} ADD PRIMARY KEY {key}; or leave it as it is with --skip-table {name}.",
            self.stage.kong_table(name)
        ))
    }

    /// What applying would write, table by table.
    pub async fn forecast(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
    ) -> Result<BTreeMap<String, Forecast>> {
        let mut forecasts = BTreeMap::new();
        for table in self.plan.moved.iter().filter(|table| self.has_key(table)) {
            let what = format!("cannot count what would be written into \"{}\"", table.table);
            let sql = filled(include_str!("../../sql/merge/forecast.sql"), &self.places(merge, table));
            let (inserted, updated, deleted, at_work): (i64, i64, i64, i64) =
                query_as(sql).fetch_one(&mut *tx).await.during(self.stage.green(), &what)?;
            forecasts.insert(
                table.table.clone(),
                Forecast {
                    inserted: number(inserted),
                    updated: number(updated),
                    deleted: number(deleted),
                    at_work: number(at_work),
                },
            );
        }
        Ok(forecasts)
    }

    /// Locks what the run changes, and makes sure that it is still as it was when it was looked at.
    pub(super) async fn lock_for_merge(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
    ) -> Result<BTreeSet<String>> {
        let what = "cannot lock Kong's tables on green";
        let mut at_work = merge.gone.left_by(tx).await?;
        for table in &self.plan.moved {
            let sql =
                fill("select exists (select from {stage})", &[("stage", &self.stage.table(&table.table))]);
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), what)? {
                at_work.insert(table.table.clone());
            }
        }
        if merge.online {
            // Who waits for us waits for what we wait for: better to let go soon, and to come again.
            let patience = "set local lock_timeout = '2s'";
            sqlx::raw_sql(patience).execute(&mut *tx).await.during(self.stage.green(), what)?;
            for table in self.plan.moved.iter().filter(|table| at_work.contains(&table.table)) {
                let sql = filled(include_str!("../../sql/merge/lock_rows.sql"), &self.places(merge, table));
                sqlx::raw_sql(sql).execute(&mut *tx).await.during(self.stage.green(), what)?;
            }
        } else if !at_work.is_empty() {
            let tables: Vec<String> = at_work.iter().map(|table| self.stage.kong_table(table)).collect();
            let sql =
                fill("lock table {tables} in share row exclusive mode", &[("tables", &tables.join(", "))]);
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(self.stage.green(), what)?;
        }
        for table in self.plan.moved.iter().filter(|table| at_work.contains(&table.table)) {
            if table.writer == Writer::Admin {
                self.still_as_seen(tx, merge, table).await?;
            }
        }
        Ok(at_work)
    }

    async fn still_as_seen(&self, tx: &mut PgConnection, merge: &Merge<'_>, table: &TablePlan) -> Result<()> {
        let now = merge.ledger.touched(self.stage.green(), tx, table).await?;
        let none = LocalChanges::new();
        let before = merge.touched.get(&table.table).unwrap_or(&none);
        let touch = |rows: &LocalChanges, key: &Digest128| rows.get(key).map(|(touch, _)| *touch);
        let keys: BTreeSet<&Digest128> = now.keys().chain(before.keys()).collect();
        let concerns = |key: &Digest128| !merge.online || (merge.at_work)(&table.table, key);
        // A row whose time has run out meanwhile is nobody's doing.
        let news = |key: &&Digest128| match (touch(before, key), touch(&now, key)) {
            (before, now) if before == now => false,
            (Some(LocalChange::Edited | LocalChange::Made), None) if table.expiry.is_some() => false,
            _ => concerns(key),
        };
        match keys.into_iter().filter(news).count() {
            0 => Ok(()),
            rows => Err(Error::refused(format!(
                "somebody changed {rows} rows of green's table \"{}\" while the run was at work; nothing was applied",
                table.table
            ))
            .remedy("Run the command again: it looks at them anew.")),
        }
    }

    /// Merges the stage and deletes what leaves.
    pub(super) async fn merge(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
        at_work: &BTreeSet<String>,
        forecast: &BTreeMap<String, Forecast>,
        seen: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let mut applied = BTreeMap::new();
        let tables: Vec<&TablePlan> =
            self.plan.moved.iter().filter(|table| at_work.contains(&table.table)).collect();
        for table in &tables {
            self.free(tx, merge, table).await.map_err(|e| self.refused_by_green(e, table))?;
        }
        for table in &tables {
            self.update(tx, merge, table).await.map_err(|e| self.refused_by_green(e, table))?;
            let updated = forecast.get(&table.table).map_or(0, |one| one.updated);
            let mut counts =
                self.table(tx, table, Holds::Rows).await.map_err(|e| self.refused_by_green(e, table))?;
            counts.inserted = counts.written;
            counts.updated = updated;
            counts.written += updated;
            seen(&table.table, counts.written);
            applied.insert(table.table.clone(), counts);
        }
        let found = merge.gone.close(tx, true).await?;
        if !found.is_empty() {
            return Err(in_the_way(&found));
        }
        for (table, whys) in merge.gone.leave(tx).await? {
            let counts: &mut AppliedTable = applied.entry(table).or_default();
            counts.deleted = whys.iter().filter(|(why, _)| *why != "expired").map(|(_, rows)| rows).sum();
        }
        for table in &tables {
            self.keep_ledger(tx, merge, table).await.map_err(|e| {
                self.stage
                    .green()
                    .explain(e, &format!("cannot bring the ledger of \"{}\" up to date", table.table))
            })?;
        }
        Ok(applied)
    }

    async fn free(&self, tx: &mut PgConnection, merge: &Merge<'_>, plan: &TablePlan) -> sqlx::Result<()> {
        let Some(table) = self.catalog.tables.get(&plan.table) else { return Ok(()) };
        let places = self.places(merge, plan);
        let sql = fill("select exists (select from {stage})", &[("stage", &self.stage.table(&plan.table))]);
        if plan.key.is_empty() || !query_scalar::<bool>(sql).fetch_one(&mut *tx).await? {
            return Ok(());
        }
        let is_parent = self
            .catalog
            .tables
            .values()
            .any(|own| own.foreign_keys.iter().any(|key| key.parent == plan.table));
        if let (Some(expiry), false) = (&plan.expiry, is_parent) {
            // Kong sees them no more, but their unique values are still taken.
            let places = [("table", self.stage.kong_table(&plan.table)), ("expiry", quote(expiry))];
            let places = places.each_ref().map(|(name, value)| (*name, value.as_str()));
            sqlx::raw_sql(fill("delete from {table} where {expiry} <= now()", &places))
                .execute(&mut *tx)
                .await?;
        }
        for index in unique_values(table) {
            let Some((column, value)) = self.freeable(plan, table, index) else { continue };
            let mut places = places.clone();
            places.push(("freed", format!("{} = {value}", quote(column))));
            places.push(("parts", columns(&index.named, "g")));
            places.push(("staged_parts", columns(&index.named, "s")));
            sqlx::raw_sql(filled(include_str!("../../sql/merge/free.sql"), &places))
                .execute(&mut *tx)
                .await?;
        }
        Ok(())
    }

    /// The column by which a unique value can be freed, and what takes its place meanwhile.
    fn freeable<'c>(
        &self,
        plan: &TablePlan,
        table: &'c GreenTable,
        index: &Index,
    ) -> Option<(&'c str, String)> {
        let workspace = self.map.names.workspace_column.as_deref();
        let refers =
            |name: &str| table.foreign_keys.iter().any(|key| key.columns.iter().any(|own| own == name));
        let mut candidates: Vec<_> = table
            .columns
            .iter()
            .filter(|column| index.named.contains(&column.name) && !plan.key.contains(&column.name))
            .filter(|column| Some(column.name.as_str()) != workspace)
            .collect();
        candidates.sort_by_key(|column| (refers(&column.name), column.not_null));
        candidates.into_iter().find_map(|column| {
            if !column.not_null && index.nulls_distinct {
                return Some((column.name.as_str(), "null".to_owned()));
            }
            let is_text = column.column_type == "text" && !refers(&column.name);
            is_text.then(|| {
                (
                    column.name.as_str(),
                    "'kongferry ' || g.ctid::text || ' ' || txid_current()::text".to_owned(),
                )
            })
        })
    }

    async fn update(&self, tx: &mut PgConnection, merge: &Merge<'_>, plan: &TablePlan) -> sqlx::Result<()> {
        let values = plan.columns.iter().filter(|column| !plan.key.contains(&column.name));
        let assignments: Vec<String> = values
            .map(|column| {
                let name = quote(&column.name);
                if plan.expiry.as_ref() == Some(&column.name) {
                    format!("{name} = case when abs(extract(epoch from s.{name} - g.{name})) <= 2 then g.{name} else s.{name} end")
                } else {
                    format!("{name} = s.{name}")
                }
            })
            .collect();
        if assignments.is_empty() || plan.key.is_empty() {
            return Ok(());
        }
        let mut places = self.places(merge, plan);
        places.push(("assignments", assignments.join(",\n    ")));
        let sql = filled(include_str!("../../sql/merge/update.sql"), &places);
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    async fn keep_ledger(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
        plan: &TablePlan,
    ) -> sqlx::Result<()> {
        if plan.key.is_empty() {
            return Ok(());
        }
        let sql = fill(
            include_str!("../../sql/ledger/forget.sql"),
            &[
                ("ledger", &ledger::relation(self.stage.green(), &plan.table)),
                ("stage", &self.stage.table(&plan.table)),
                ("gone", &merge.gone.table(&plan.table)),
                ("same_staged", &ledger::same_key(plan, "l", "s")),
                ("same_gone", &gone_key(plan)),
            ],
        );
        sqlx::raw_sql(sql).execute(&mut *tx).await?;
        self.enter(tx, plan, true).await
    }

    /// Enters what stands on green of the stage. `careful` where green may hold a row of its own in its place.
    pub(super) async fn enter(
        &self,
        tx: &mut PgConnection,
        plan: &TablePlan,
        careful: bool,
    ) -> sqlx::Result<()> {
        let staged: Vec<String> = plan.key.iter().map(|name| format!("s.{}", quote(name))).collect();
        let column = plan.expiry.as_deref().map(quote);
        let alias = if careful { "g" } else { "s" };
        let mut joined = String::new();
        if careful {
            joined = format!("\njoin {} g on {}", self.stage.kong_table(&plan.table), same_key(plan));
        }
        let mut alive = ledger::alive(plan.expiry.as_deref(), alias);
        if careful && plan.writer == Writer::Traffic {
            alive = format!("{alive} and ({} or ({}))", ledger::written_here("g"), same_row(plan));
        }
        let sql = fill(
            include_str!("../../sql/ledger/enter.sql"),
            &[
                ("ledger", &ledger::relation(self.stage.green(), &plan.table)),
                ("keys", &ledger::key_columns(plan, "").join(", ")),
                ("staged_keys", &staged.join(", ")),
                ("expiry", &column.map_or_else(|| "null".to_owned(), |column| format!("{alias}.{column}"))),
                ("stage", &self.stage.table(&plan.table)),
                ("joined", &joined),
                ("alive", &alive),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }
}

/// Unique indexes whose values may move from row to row: not the key's own, and not one that holds the whole key.
fn unique_values(table: &GreenTable) -> impl Iterator<Item = &Index> {
    let holds_key = |index: &&Index| table.primary_key.iter().all(|column| index.columns.contains(column));
    table.indexes.iter().filter(move |index| index.unique && !index.primary && !holds_key(index))
}

fn gone_key(plan: &TablePlan) -> String {
    let pair = |at: usize| format!("l.key_{at} = d.key_{at}");
    (1..=plan.key.len()).map(pair).collect::<Vec<_>>().join(" and ")
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn filled(template: &str, places: &[(&'static str, String)]) -> sqlx::AssertSqlSafe<String> {
    let places: Vec<(&str, &str)> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    fill(template, &places)
}

/// The sentence that names what somebody did on green.
pub fn changed_by_hand(found: &[ByHand]) -> Error {
    let tables: BTreeSet<String> = found.iter().map(|one| literal(&one.table).replace('\'', "\"")).collect();
    let mut error = Error::refused(format!(
        "green was changed by hand: rows of {} are neither as we wrote them nor as blue has them",
        tables.into_iter().collect::<Vec<_>>().join(", ")
    ))
    .remedy("Make the same change on blue, or undo it on green, and run the command again; --replace undoes all of them, after asking.");
    for one in found {
        let more = one.rows.saturating_sub(one.keys.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let word = match one.touch.as_str() {
            "made" => "made on green",
            "edited" => "edited on green",
            _ => "removed on green",
        };
        error = error.detail(format!("{}, {word}: {}{more}", one.table, one.keys.join(", ")));
    }
    error
}
