//! A repair's one transaction: the selected rows of the stage take the place of what green holds under their keys, and
//! selected rows that blue lacks go. Nothing else is touched: green's rows are counted before and after.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::{PgConnection, Row};

use super::apply::{Apply, compare_definitions, same_key};
use super::definitions::Definitions;
use super::ledger;
use super::sql::{columns, fill, literal, quote};
use super::statement::{query, query_scalar};
use crate::error::{Error, Kind, Result};
use crate::green::session::During;
use crate::mapping::table_plan::TablePlan;

/// What the transaction needs.
#[derive(Debug, Clone, Copy)]
pub struct RowRepair<'a> {
    /// The filled and checked stage, the plan, and green's tables.
    pub apply: Apply<'a>,
}

/// Keys of one table, as findings show them.
#[derive(Debug, Clone, Copy)]
pub struct Keys<'a> {
    /// The table.
    pub table: &'a str,
    /// The keys.
    pub keys: &'a [&'a Value],
    /// Whether these rows go, rather than being written.
    pub remove: bool,
}

/// A row that cannot be written.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Left {
    /// Its table.
    pub table: String,
    /// Its key.
    pub key: Value,
    /// The column to blame, where there is one.
    pub column: Option<String>,
    /// The code of a reject's reason, or `not_on_blue`.
    pub reason: String,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mended {
    /// Rows that were written.
    pub written: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// Rows of Kong's table of tags that were put right beside those that its triggers wrote.
    pub tags: u64,
}

impl RowRepair<'_> {
    /// Makes the table of selected rows.
    pub async fn create(&self, tx: &mut PgConnection) -> Result<()> {
        let sql = fill(include_str!("../../sql/row_repair/create.sql"), &[("work", &self.work())]);
        let done = sqlx::raw_sql(sql).execute(tx).await;
        done.map(|_| ()).during(self.apply.stage.green(), "cannot make the table of the rows to repair")
    }

    /// Selects rows by their keys.
    pub async fn select(&self, tx: &mut PgConnection, keys: Keys<'_>) -> Result<()> {
        let Some(plan) = self.apply.plan.table(keys.table) else { return Ok(()) };
        let objects: Vec<Value> = keys.keys.iter().map(|key| object(plan, key)).collect();
        let sql = fill(include_str!("../../sql/row_repair/select.sql"), &[("work", &self.work())]);
        let selected = query(sql).bind(keys.table).bind(objects).bind(keys.keys).bind(keys.remove);
        let what = "cannot select the rows to repair";
        selected.execute(tx).await.map(|_| ()).during(self.apply.stage.green(), what)
    }

    /// Rows that were selected to be written and are not in the stage.
    pub async fn left(&self, tx: &mut PgConnection, table: &TablePlan) -> Result<Vec<Left>> {
        let what = format!("cannot look for rows of \"{}\" that cannot be repaired", table.table);
        let rows =
            query(self.fill(table, include_str!("../../sql/row_repair/left.sql"), &[])).fetch_all(tx).await;
        let left = |row: sqlx::postgres::PgRow| -> sqlx::Result<Left> {
            Ok(Left {
                table: table.table.clone(),
                key: row.try_get("key")?,
                column: row.try_get("column_name")?,
                reason: row.try_get("reason")?,
            })
        };
        rows.and_then(|rows| rows.into_iter().map(left).collect()).during(self.apply.stage.green(), &what)
    }

    /// Writes and removes the selected rows of these tables, and leaves the transaction to the caller to commit.
    pub async fn run(&self, tx: &mut PgConnection, tables: &[&TablePlan]) -> Result<Mended> {
        let apply = &self.apply;
        let schema = apply.stage.green().kong_schema();
        apply.lock(tx).await?;
        apply.stage.check_epoch(tx).await?;
        let definitions = Definitions::read(tx, schema).await?;
        let before = self.rows(tx).await?;
        let mut mended = Mended::default();
        let mut change: BTreeMap<&str, i64> = BTreeMap::new();
        // Children first: what they refer to is about to change.
        for table in tables.iter().rev() {
            self.park(tx, table).await.map_err(|e| apply.refused_by_green(e, table))?;
        }
        for table in tables.iter().rev() {
            let gone = self.remove(tx, table).await.map_err(|e| self.not_removed(e, table))?;
            *change.entry(&table.table).or_default() -= gone.cast_signed();
            mended.removed += gone;
        }
        for table in tables {
            let (updated, inserted) = self.write(tx, table).await.map_err(|e| self.not_written(e, table))?;
            *change.entry(&table.table).or_default() += inserted.cast_signed();
            mended.written += updated + inserted;
        }
        for table in tables.iter().filter(|table| apply.ledger.knows(&table.table)) {
            let what = format!("cannot bring the ledger of \"{}\" up to date", table.table);
            self.enter(tx, table).await.during(apply.stage.green(), &what)?;
        }
        apply.ledger.enter_writer(apply.stage.green(), tx, apply.stage.run()).await?;
        mended.tags = self.tags(tx).await.during(apply.stage.green(), "cannot put green's tags right")?;
        let after = self.rows(tx).await?;
        only_these_changed(&before, &after, &change)?;
        apply.compare_tags(tx, None).await?;
        let defined = Definitions::read(tx, schema).await?;
        compare_definitions(&definitions, &defined, &std::collections::BTreeSet::new())?;
        Ok(mended)
    }

    fn work(&self) -> String {
        quote(self.apply.stage.green().work_schema())
    }

    async fn park(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<()> {
        let parked = self.parked(table);
        if parked.is_empty() {
            return Ok(());
        }
        let sql = self.fill(
            table,
            include_str!("../../sql/row_repair/park.sql"),
            &[("parked", &parked.join(", "))],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    /// References become null, and of each unique index one column: null where it may be, else a text that is
    /// nobody's.
    fn parked(&self, table: &TablePlan) -> Vec<String> {
        let Some(own) = self.apply.catalog.tables.get(&table.table) else { return Vec::new() };
        let workspace = self.apply.map.names.workspace_column.as_deref();
        let is_free = |name: &&String| {
            !table.key.contains(name)
                && workspace != Some(name.as_str())
                && table.columns.iter().any(|column| column.name == **name)
        };
        let may_be_null = |name: &&String| own.column(name).is_some_and(|column| !column.not_null);
        let is_text = |name: &&String| own.column(name).is_some_and(|column| column.column_type == "text");
        let mut parked = BTreeMap::new();
        let references = own.foreign_keys.iter().flat_map(|key| &key.columns);
        for name in references.filter(is_free).filter(may_be_null) {
            parked.insert(name, "null".to_owned());
        }
        for index in own.indexes.iter().filter(|index| index.unique && !index.primary) {
            let mut columns = index.columns.iter().filter(is_free);
            let first_null = columns.clone().find(may_be_null);
            if let Some(name) = first_null {
                parked.insert(name, "null".to_owned());
            } else if let Some(name) = columns.find(is_text) {
                parked.insert(
                    name,
                    "md5(random()::text || clock_timestamp()::text || g.ctid::text)".to_owned(),
                );
            }
        }
        parked.into_iter().map(|(name, value)| format!("{} = {value}", quote(name))).collect()
    }

    async fn remove(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<u64> {
        let sql = self.fill(table, include_str!("../../sql/row_repair/remove.sql"), &[("remove", "true")]);
        Ok(sqlx::raw_sql(sql).execute(tx).await?.rows_affected())
    }

    async fn write(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<(u64, u64)> {
        let sql = self.fill(table, include_str!("../../sql/row_repair/update.sql"), &[]);
        let updated = sqlx::raw_sql(sql).execute(&mut *tx).await?.rows_affected();
        let sql = self.fill(table, include_str!("../../sql/row_repair/insert.sql"), &[]);
        let inserted = sqlx::raw_sql(sql).execute(tx).await?.rows_affected();
        Ok((updated, inserted))
    }

    /// What was written belongs to our runs from now on, and what was removed is forgotten.
    async fn enter(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<()> {
        let staged: Vec<String> = table.key.iter().map(|name| format!("s.{}", quote(name))).collect();
        let expiry = table.expiry.as_ref().map(|column| format!("s.{}", quote(column)));
        let places = [
            ("ledger", ledger::relation(self.apply.stage.green(), &table.table)),
            ("keys", ledger::key_columns(table, "").join(", ")),
            ("l_is_k", ledger::same_key(table, "l", "k")),
            ("l_is_g", ledger::same_key(table, "l", "g")),
            ("staged_keys", staged.join(", ")),
            ("expiry", expiry.unwrap_or_else(|| "null".to_owned())),
        ];
        let mut places: Vec<(&str, &str)> =
            places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let written = self.fill(table, include_str!("../../sql/row_repair/enter.sql"), &places);
        sqlx::raw_sql(written).execute(&mut *tx).await?;
        places.push(("remove", "true"));
        let removed = self.fill(table, include_str!("../../sql/row_repair/forget.sql"), &places);
        sqlx::raw_sql(removed).execute(tx).await.map(|_| ())
    }

    async fn tags(&self, tx: &mut PgConnection) -> sqlx::Result<u64> {
        let Some((tags, entities)) = self.apply.tagged_entities() else { return Ok(0) };
        let places = [
            ("entities", entities.as_str()),
            ("tags_ref", &self.apply.stage.kong_table(&tags.table)),
            ("entity_id", &quote(&tags.entity_id)),
            ("entity_name", &quote(&tags.entity_name)),
            ("tags", &quote(&tags.tags)),
        ];
        let stray = fill(include_str!("../../sql/row_repair/stray_tags.sql"), &places);
        let stray = sqlx::raw_sql(stray).execute(&mut *tx).await?.rows_affected();
        let missing = fill(include_str!("../../sql/row_repair/missing_tags.sql"), &places);
        let missing = sqlx::raw_sql(missing).execute(tx).await?.rows_affected();
        Ok(stray.max(missing))
    }

    /// Living rows of every table that moves; what expires meanwhile is nobody's doing.
    async fn rows(&self, tx: &mut PgConnection) -> Result<BTreeMap<String, i64>> {
        let mut rows = BTreeMap::new();
        for table in &self.apply.plan.moved {
            let sql = fill(
                "select count(*) from {table_ref} g where {alive}",
                &[("table_ref", &self.apply.stage.kong_table(&table.table)), ("alive", &alive(table, "g"))],
            );
            let what = format!("cannot count green's table \"{}\"", table.table);
            let count = query_scalar(sql).fetch_one(&mut *tx).await;
            rows.insert(table.table.clone(), count.during(self.apply.stage.green(), &what)?);
        }
        Ok(rows)
    }

    /// Fills what every statement about one table has in common.
    fn fill(&self, table: &TablePlan, template: &str, more: &[(&str, &str)]) -> sqlx::AssertSqlSafe<String> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let own = |name: &&&str| !table.key.iter().any(|key| key == **name);
        let assigned = names.iter().filter(own).map(|name| format!("{0} = s.{0}", quote(name)));
        let pairs = |one: &str, other: &str| {
            let pair = |name: &String| format!("{one}.{0} = {other}.{0}", quote(name));
            table.key.iter().map(pair).collect::<Vec<_>>().join(" and ")
        };
        let stage = self.apply.stage;
        let common = [
            ("work", self.work()),
            ("table", literal(&table.table)),
            ("table_ref", stage.kong_table(&table.table)),
            ("stage", stage.table(&table.table)),
            ("columns", columns(&names, "")),
            ("staged", columns(&names, "s")),
            ("assigned", assigned.collect::<Vec<_>>().join(", ")),
            ("alive", alive(table, "s")),
            ("same_key", same_key(table)),
            ("s_is_k", pairs("s", "k")),
            ("g_is_k", pairs("g", "k")),
        ];
        let mut places = more.to_vec();
        places.extend(common.iter().map(|(name, value)| (*name, value.as_str())));
        places.push(("remove", "false"));
        let sqlx::AssertSqlSafe(selected) = fill(include_str!("../../sql/row_repair/selected.sql"), &places);
        places.push(("selected", &selected));
        fill(template, &places)
    }

    fn not_written(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        self.apply.refused_by_green(error, table).remedy(
            "Rows that blue lacks may hold what these rows need, such as a name: look at the findings, and remove those rows with --delete-extra.",
        )
    }

    fn not_removed(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        let what = format!(
            "rows of \"{}\" that blue lacks cannot be removed from green; nothing was repaired",
            table.table
        );
        self.apply.explain(error, &what).remedy("Other rows of green refer to them: look at the findings.")
    }
}

/// A key of one column is shown as its value.
fn object(plan: &TablePlan, key: &Value) -> Value {
    match (key, plan.key.as_slice()) {
        (Value::Object(_), _) => key.clone(),
        (value, [name]) => Value::Object(Map::from_iter([(name.clone(), value.clone())])),
        (value, _) => value.clone(),
    }
}

fn alive(table: &TablePlan, alias: &str) -> String {
    match &table.expiry {
        Some(column) => format!("({alias}.{0} is null or {alias}.{0} > now())", quote(column)),
        None => "true".to_owned(),
    }
}

/// A row that goes with another by a rule of green's own would be a row that nobody asked about.
fn only_these_changed(
    before: &BTreeMap<String, i64>,
    after: &BTreeMap<String, i64>,
    change: &BTreeMap<&str, i64>,
) -> Result<()> {
    for (table, rows) in before {
        let expected = rows + change.get(table.as_str()).copied().unwrap_or(0);
        let found = after.get(table).copied().unwrap_or(0);
        if found != expected {
            return Err(Error::new(
                Kind::Refused,
                format!("the repair would change rows of \"{table}\" that it is not about: it would leave {found} rows, not {expected}"),
            )
            .detail("Green is as it was. Rows that refer to a row go with it, where green's own rules say so.")
            .remedy("Look at the findings: remove those rows yourself, or repair them in the same call."));
        }
    }
    Ok(())
}
