//! The one transaction that merges the stage into Kong's tables: green is seen before or after it, never between.
//!
//! Parents come before children. Kong's own constraints have the last word – in a large first load they are put back
//! over the loaded rows ([`first_load`](super::first_load)) –, and every definition in Kong's schema is compared before
//! the commit.

mod rows;
mod tags;

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

pub(in crate::green) use self::rows::Holds;
use super::baseline::Baseline;
use super::bootstrap::Bootstrap;
use super::cycles;
use super::definitions::Definitions;
use super::first_load::FirstLoad;
use super::ledger::Ledger;
use super::merge::Merge;
use super::sql::{fill, key, literal, quote};
use super::stage::Stage;
use super::statement::query_scalar;
use crate::catalog::green::GreenCatalog;
use crate::error::{Error, Kind, Result};
use crate::green::session::During;
use crate::mapping::schema_map::{SchemaMap, Writer};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// How many rows a message names before it only counts.
const NAMED: usize = 5;

/// Everything the applying transaction needs.
#[derive(Debug, Clone, Copy)]
pub struct Apply<'a> {
    /// The filled and checked stage.
    pub stage: &'a Stage,
    /// What was staged.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// The line's schema map.
    pub map: &'a SchemaMap,
    /// What stood on green right after its bootstrap, where somebody kept it.
    pub baseline: Option<&'a Baseline>,
    /// Whether indexes and constraints may be taken off meanwhile: nobody uses green, and there is much to load.
    pub first_load: bool,
    /// What earlier runs wrote: the ledger is brought up to date in the same transaction.
    pub ledger: &'a Ledger,
    /// In an incremental run, what leaves and what was seen on green.
    pub merge: Option<Merge<'a>>,
}

/// What became of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppliedTable {
    /// Rows of blue that stand on green now.
    pub applied: u64,
    /// Those of them that this run wrote.
    pub written: u64,
    /// Rows whose time ran out since the checks.
    pub expired: u64,
    /// Rows that stayed behind because green, in use, holds another row in their place; only of `traffic` tables.
    pub held_back: u64,
    /// In an incremental run, rows that green did not have.
    pub inserted: u64,
    /// Rows that it had otherwise.
    pub updated: u64,
    /// Rows that left it, those aside whose time had run out.
    pub deleted: u64,
}

/// Rows that stand on green and that nothing explains.
#[derive(Debug, Clone)]
pub struct Unexplained {
    /// The table.
    pub table: String,
    /// The keys of some of them, as JSON text.
    pub keys: Vec<String>,
    /// Whether there are more.
    pub more: bool,
}

/// The workspaces' ids before and after.
struct DefaultWorkspace {
    green: String,
    blue: String,
}

impl Apply<'_> {
    /// Merges, compares and leaves the transaction to the caller to commit.
    pub async fn run(
        &self,
        tx: &mut PgConnection,
        seen: impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let what = "cannot apply the stage";
        if let Some(merge) = &self.merge {
            return self.run_merge(tx, merge, seen).await;
        }
        self.lock(tx).await?;
        self.stage.check_epoch(tx).await?;
        self.refuse_unexplained(tx).await?;
        let before = Definitions::read(tx, self.stage.green().kong_schema()).await?;
        let moved = self.default_workspace(tx).await.during(self.stage.green(), what)?;
        self.bootstrap().make_room(tx).await.map_err(|e| self.no_room(e, what))?;
        let quick = self.quick_way(tx).await?;
        let applied = match quick {
            Some(load) => {
                let quickly = Box::pin(self.quickly(tx, load, &seen));
                let (applied, ()) = tokio::try_join!(quickly, super::ledger::aside(self.stage, self.plan))?;
                self.adopt_ledger(tx).await?;
                applied
            }
            None => {
                let applied = Box::pin(self.in_place(tx, &seen)).await?;
                self.begin_ledger(tx).await?;
                applied
            }
        };
        self.ledger.enter_writer(self.stage.green(), tx, self.stage.run()).await?;
        let followed = self.defaults_follow(tx, moved.as_ref()).await?;
        self.compare_tags(tx, None).await?;
        let after = Definitions::read(tx, self.stage.green().kong_schema()).await?;
        compare_definitions(&before, &after, &followed)?;
        Ok(applied)
    }

    /// An incremental run: only what changed is written, and only that is locked.
    async fn run_merge(
        &self,
        tx: &mut PgConnection,
        merge: &Merge<'_>,
        seen: impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        self.stage.check_epoch(tx).await?;
        let at_work = self.lock_for_merge(tx, merge).await?;
        // Counted before anything is written: rows of the bootstrap give way, and unique values are freed, by updates too.
        let forecast = self.forecast(tx, merge).await?;
        let before = Definitions::read(tx, self.stage.green().kong_schema()).await?;
        let moved = self.default_workspace(tx).await.during(self.stage.green(), "cannot apply the stage")?;
        let mut circular = cycles::circular(self.plan, self.catalog);
        circular.retain(|(table, _)| at_work.contains(table));
        let put_off = self.put_off(tx, circular).await?;
        let applied = self.merge(tx, merge, &at_work, &forecast, &seen).await?;
        if let Some(changed) = put_off {
            cycles::check(tx, self.stage, changed).await?;
        }
        merge.ledger.enter_writer(self.stage.green(), tx, self.stage.run()).await?;
        let followed = self.defaults_follow(tx, moved.as_ref()).await?;
        self.compare_tags(tx, Some(&at_work)).await?;
        let after = Definitions::read(tx, self.stage.green().kong_schema()).await?;
        compare_definitions(&before, &after, &followed)?;
        Ok(applied)
    }

    /// Rows go in with every index, reference and trigger at work.
    async fn in_place(
        &self,
        tx: &mut PgConnection,
        seen: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let put_off = self.put_off(tx, cycles::circular(self.plan, self.catalog)).await?;
        let applied = self.tables(tx, |_| Holds::Rows, seen).await?;
        if let Some(changed) = put_off {
            cycles::check(tx, self.stage, changed).await?;
        }
        Ok(applied)
    }

    /// Rows go in while indexes, references and triggers are off.
    async fn quickly(
        &self,
        tx: &mut PgConnection,
        load: FirstLoad<'_>,
        seen: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let taken = load.take_off(tx).await?;
        let holds = |table: &TablePlan| if load.begins_empty(table) { Holds::Nothing } else { Holds::Rows };
        let applied = self.tables(tx, holds, seen).await?;
        load.fill_tags(tx, |table| applied.get(table).is_some_and(|one| one.written > 0)).await?;
        load.put_back(tx, taken).await?;
        Ok(applied)
    }

    async fn tables(
        &self,
        tx: &mut PgConnection,
        holds: impl Fn(&TablePlan) -> Holds,
        seen: &impl Fn(&str, u64),
    ) -> Result<BTreeMap<String, AppliedTable>> {
        let mut applied = BTreeMap::new();
        for table in &self.plan.moved {
            let counts = self.table(tx, table, holds(table)).await;
            let counts = counts.map_err(|e| self.refused_by_green(e, table))?;
            seen(&table.table, counts.applied);
            applied.insert(table.table.clone(), counts);
        }
        Ok(applied)
    }

    /// Puts off the checks of references that go in a circle, where there are any.
    async fn put_off(
        &self,
        tx: &mut PgConnection,
        circular: Vec<cycles::Reference>,
    ) -> Result<Option<Vec<cycles::Reference>>> {
        if circular.is_empty() {
            return Ok(None);
        }
        cycles::put_off(tx, self.stage, circular).await.map(Some)
    }

    /// The ledger of a first run: every row that stands on green now, entered set by set.
    async fn begin_ledger(&self, tx: &mut PgConnection) -> Result<()> {
        let green = self.stage.green();
        for table in self.plan.moved.iter().filter(|table| !table.key.is_empty()) {
            let what = format!("cannot write the ledger of \"{}\"", table.table);
            let careful = table.expiry.is_some() || table.writer == Writer::Traffic;
            self.ledger.create(green, tx, table).await.during(self.stage.green(), &what)?;
            self.enter(tx, table, careful).await.during(self.stage.green(), &what)?;
            super::ledger::index(green, tx, table).await.during(self.stage.green(), &what)?;
        }
        Ok(())
    }

    /// The same, where the ledgers were made beside: on the quick way green holds no row in the place of a staged one.
    async fn adopt_ledger(&self, tx: &mut PgConnection) -> Result<()> {
        for table in self.plan.moved.iter().filter(|table| !table.key.is_empty()) {
            let what = format!("cannot take over the ledger of \"{}\"", table.table);
            let adopted = self.ledger.adopt(self.stage.green(), tx, table).await;
            adopted.during(self.stage.green(), &what)?;
        }
        Ok(())
    }

    /// The quick way, where it is allowed and open.
    async fn quick_way(&self, tx: &mut PgConnection) -> Result<Option<FirstLoad<'_>>> {
        if !self.first_load {
            return Ok(None);
        }
        let load =
            FirstLoad { stage: self.stage, plan: self.plan, catalog: self.catalog, names: &self.map.names };
        match load.obstacle(tx).await? {
            None => Ok(Some(load)),
            Some(obstacle) => {
                tracing::warn!(
                    "The rows go in with all indexes and triggers in place, which takes longer: {obstacle}."
                );
                Ok(None)
            }
        }
    }

    pub(super) fn explain(&self, error: sqlx::Error, what: &str) -> Error {
        self.stage.green().explain(error, what)
    }

    /// Green's own first rows hold on to each other; they can give way only together.
    fn no_room(&self, error: sqlx::Error, what: &str) -> Error {
        let database = error.as_database_error();
        let table = database.filter(|e| e.is_foreign_key_violation()).and_then(|e| e.table());
        let Some(table) = table.map(str::to_owned) else { return self.explain(error, what) };
        Error::refused(format!(
            "rows that green's bootstrap made cannot give way to blue's: rows of \"{table}\", which is not moved, refer to them; nothing was applied"
        ))
        .source(error)
        .remedy(format!("Let \"{table}\" move too, or delete those rows on green, and run the command again."))
    }

    /// A constraint that the checks did not foresee: green is as it was, and its name helps.
    pub(super) fn refused_by_green(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        let constraint = error
            .as_database_error()
            .and_then(|e| e.constraint().map(|name| format!("The constraint or index is {name}.")));
        let error =
            self.explain(error, &format!("green refuses rows of \"{}\"; nothing was applied", table.table));
        match constraint {
            Some(line) => error.detail(line),
            None => error,
        }
    }

    /// Nobody writes between the last look and the commit; readers go on.
    pub(super) async fn lock(&self, tx: &mut PgConnection) -> Result<()> {
        let tables: Vec<String> =
            self.plan.moved.iter().map(|table| self.stage.kong_table(&table.table)).collect();
        let sql = fill(
            "set local lock_timeout = '10s'; lock table {tables} in share row exclusive mode",
            &[("tables", &tables.join(", "))],
        );
        sqlx::raw_sql(sql)
            .execute(tx)
            .await
            .map(|_| ())
            .during(self.stage.green(), "cannot lock Kong's tables on green")
    }

    async fn refuse_unexplained(&self, tx: &mut PgConnection) -> Result<()> {
        let found = self.unexplained(tx).await?;
        if found.is_empty() {
            return Ok(());
        }
        Err(not_fresh(&found))
    }

    /// Rows of `admin` tables that neither green's bootstrap nor the stage explains.
    pub async fn unexplained(&self, tx: &mut PgConnection) -> Result<Vec<Unexplained>> {
        let mut found = Vec::new();
        for table in
            self.plan.moved.iter().filter(|table| table.writer == Writer::Admin && !table.key.is_empty())
        {
            let sql = fill(
                include_str!("../../../sql/apply/unexplained.sql"),
                &[
                    ("key", &key(&table.key, "g")),
                    ("table_ref", &self.stage.kong_table(&table.table)),
                    ("stage", &self.stage.table(&table.table)),
                    ("bootstrap", &self.bootstrap().made(table)),
                    ("same_row", &same_row(table)),
                ],
            );
            let what = format!("cannot look for rows of \"{}\" that are on green already", table.table);
            let mut keys: Vec<String> =
                query_scalar(sql).fetch_all(&mut *tx).await.during(self.stage.green(), &what)?;
            let more = keys.len() > NAMED;
            keys.truncate(NAMED);
            if !keys.is_empty() {
                found.push(Unexplained { table: table.table.clone(), keys, more });
            }
        }
        for table in &self.plan.only_green {
            let sql =
                fill("select exists (select from {table})", &[("table", &self.stage.kong_table(table))]);
            let what = format!("cannot look into green's table \"{table}\"");
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), &what)? {
                found.push(Unexplained { table: table.clone(), keys: Vec::new(), more: true });
            }
        }
        Ok(found)
    }

    fn bootstrap(&self) -> Bootstrap<'_> {
        Bootstrap {
            stage: self.stage,
            plan: self.plan,
            catalog: self.catalog,
            map: self.map,
            baseline: self.baseline,
            ledger: self.ledger,
        }
    }

    /// The condition under which a row of green that no run wrote leaves it; see [`Bootstrap::leaves`].
    pub fn leaves(&self, table: &TablePlan, replace: bool) -> Option<String> {
        self.bootstrap().leaves(table, replace)
    }

    /// The condition under which a row of green was made by its own bootstrap.
    pub fn made_by_bootstrap(&self, table: &TablePlan) -> String {
        self.bootstrap().made(table)
    }

    async fn default_workspace(&self, tx: &mut PgConnection) -> sqlx::Result<Option<DefaultWorkspace>> {
        let Some(names) = &self.map.names.workspaces else { return Ok(None) };
        let id_on = |table: String| {
            fill(
                "select {id}::text from {table} where {name} = {default}",
                &[
                    ("id", &quote(&names.id)),
                    ("table", &table),
                    ("name", &quote(&names.name)),
                    ("default", &literal(&names.default)),
                ],
            )
        };
        let green: Option<String> =
            query_scalar(id_on(self.stage.kong_table(&names.table))).fetch_optional(&mut *tx).await?;
        let blue: Option<String> =
            query_scalar(id_on(self.stage.table(&names.table))).fetch_optional(tx).await?;
        Ok(green.zip(blue).map(|(green, blue)| DefaultWorkspace { green, blue }))
    }

    /// On Enterprise the default of `ws_id` names the default workspace that the bootstrap made; it follows blue's.
    async fn defaults_follow(
        &self,
        tx: &mut PgConnection,
        moved: Option<&DefaultWorkspace>,
    ) -> Result<BTreeSet<(String, String)>> {
        let (Some(moved), Some(column)) = (moved, self.map.names.workspace_column.as_deref()) else {
            return Ok(BTreeSet::new());
        };
        let mut followed = BTreeSet::new();
        for table in self.catalog.tables.values() {
            let names_it = |default: &String| default.contains(&moved.green);
            if moved.green == moved.blue
                || !table.column(column).is_some_and(|own| own.default.as_ref().is_some_and(names_it))
            {
                continue;
            }
            let sql = fill(
                "alter table {table} alter column {column} set default {id}::uuid",
                &[
                    ("table", &self.stage.kong_table(&table.name)),
                    ("column", &quote(column)),
                    ("id", &literal(&moved.blue)),
                ],
            );
            let what = format!(
                "cannot give the default of {}.{column} the id of blue's default workspace",
                table.name
            );
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(self.stage.green(), &what)?;
            followed.insert((table.name.clone(), column.to_owned()));
        }
        Ok(followed)
    }
}

/// The sentence that names rows on green that nobody can explain.
pub fn not_fresh(found: &[Unexplained]) -> Error {
    let tables: Vec<String> = found.iter().map(|one| format!("\"{}\"", one.table)).collect();
    let mut error = Error::refused(format!(
        "green is not fresh: it holds rows that neither its bootstrap nor blue explains, in {}",
        tables.join(", ")
    ))
    .remedy(
        "Use a database that Kong has just bootstrapped (kong migrations bootstrap) and nobody has written to, or delete these rows if they may go.",
    );
    for one in found {
        let more = if one.more { " and more" } else { "" };
        let keys = if one.keys.is_empty() {
            "has rows; blue has no such table (--skip-table leaves it alone)".to_owned()
        } else {
            one.keys.join(", ")
        };
        error = error.detail(format!("{}: {keys}{more}", one.table));
    }
    error
}

/// That a row `g` of green has the key of the staged row `s`.
pub(super) fn same_key(table: &TablePlan) -> String {
    let one = |name: &String| format!("g.{0} = s.{0}", quote(name));
    if table.key.is_empty() {
        "false".to_owned()
    } else {
        table.key.iter().map(one).collect::<Vec<_>>().join(" and ")
    }
}

/// Equal in every column; two expiries are the same within two seconds (DESIGN, "Time to live").
pub(super) fn same_row(table: &TablePlan) -> String {
    let mut conditions = vec![same_key(table)];
    for column in table.columns.iter().filter(|column| !table.key.contains(&column.name)) {
        let name = quote(&column.name);
        // json has no equality of its own.
        let cast = if column.green_type.starts_with("json") && !column.green_type.starts_with("jsonb") {
            "::text"
        } else {
            ""
        };
        let equal = format!("s.{name}{cast} is not distinct from g.{name}{cast}");
        if table.expiry.as_ref() == Some(&column.name) {
            conditions.push(format!("({equal} or abs(extract(epoch from s.{name} - g.{name})) <= 2)"));
        } else {
            conditions.push(equal);
        }
    }
    conditions.join(" and ")
}

/// Every definition is as it was, but the defaults that had to follow the workspace.
pub(super) fn compare_definitions(
    before: &Definitions,
    after: &Definitions,
    followed: &BTreeSet<(String, String)>,
) -> Result<()> {
    let differences = before.differences(after, followed);
    if differences.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(Kind::Server, "Kong's schema on green would not be as it was; nothing was applied")
        .remedy("This is a defect of kongferry, or somebody changed the schema meanwhile: run it again, and report it if it stays.");
    for difference in differences.iter().take(NAMED) {
        error = error.detail(difference.to_string());
    }
    Err(error)
}
