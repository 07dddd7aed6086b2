//! The one transaction of a repair: the selected rows of the stage replace green's rows with their keys, and selected rows
//! that blue lacks are deleted. No other row changes: green's rows are counted before and after.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sqlx::{PgConnection, Row};

use super::apply_context::ApplyContext;
use super::conditions::{alive, numbered_key, same_key, same_numbered_key};
use super::definitions::Definitions;
use super::ledger;
use super::session::During;
use super::sql::{columns, fill, literal, quote};
use super::statement::{query, query_scalar};
use super::tags::{compare_tags, tagged_entities};
use crate::error::{Error, Kind, Result};
use crate::mapping::table_plan::TablePlan;

/// A repair with a filled and checked stage.
#[derive(Debug, Clone, Copy)]
pub struct RowRepair<'a>(pub ApplyContext<'a>);

/// Keys of one table, as findings contain them.
#[derive(Debug, Clone, Copy)]
pub struct SelectedKeys<'a> {
    pub table: &'a str,
    pub keys: &'a [&'a Value],
    /// Whether these rows are deleted, rather than written.
    pub remove: bool,
}

/// A row that cannot be written.
#[derive(Debug, Clone, serde::Serialize)]
pub struct UnrepairableRow {
    pub table: String,
    pub key: Value,
    /// The column that caused its rejection.
    pub column: Option<String>,
    /// The reason code of a reject, or `not_on_blue`.
    pub reason: String,
}

#[derive(Debug, Clone, Copy, Default)]
pub struct RepairedRows {
    pub written: u64,
    pub removed: u64,
    /// Rows of Kong's table of tags that were corrected, apart from those that its triggers wrote.
    pub tags: u64,
}

impl RowRepair<'_> {
    /// Creates the table of selected rows.
    pub async fn create(&self, tx: &mut PgConnection) -> Result<()> {
        let sql = fill(include_str!("../../sql/row_repair/create.sql"), &[("work", &self.work())]);
        let created = sqlx::raw_sql(sql).execute(tx).await;
        created.map(|_| ()).during(self.0.green(), "cannot create the table of the rows to repair")
    }

    pub async fn select(&self, tx: &mut PgConnection, keys: SelectedKeys<'_>) -> Result<()> {
        let Some(plan) = self.0.plan.table(keys.table) else { return Ok(()) };
        let objects: Vec<Value> = keys.keys.iter().map(|key| key_object(plan, key)).collect();
        let sql = fill(include_str!("../../sql/row_repair/select.sql"), &[("work", &self.work())]);
        let selected = query(sql).bind(keys.table).bind(objects).bind(keys.keys).bind(keys.remove);
        let action = "cannot select the rows to repair";
        selected.execute(tx).await.map(|_| ()).during(self.0.green(), action)
    }

    /// Rows that were selected to be written and are not in the stage.
    pub async fn not_repairable(
        &self,
        tx: &mut PgConnection,
        table: &TablePlan,
    ) -> Result<Vec<UnrepairableRow>> {
        let action = format!("cannot read the rows of \"{}\" that cannot be repaired", table.table);
        let rows = query(self.fill(table, include_str!("../../sql/row_repair/not_repairable.sql"), &[]))
            .fetch_all(tx)
            .await;
        let unrepairable = |row: sqlx::postgres::PgRow| -> sqlx::Result<UnrepairableRow> {
            Ok(UnrepairableRow {
                table: table.table.clone(),
                key: row.try_get("key")?,
                column: row.try_get("column_name")?,
                reason: row.try_get("reason")?,
            })
        };
        rows.and_then(|rows| rows.into_iter().map(unrepairable).collect()).during(self.0.green(), &action)
    }

    /// Writes and deletes the selected rows of these tables; the caller commits.
    pub async fn run(&self, tx: &mut PgConnection, tables: &[&TablePlan]) -> Result<RepairedRows> {
        let (context, green) = (&self.0, self.0.green());
        context.lock_tables(tx).await?;
        context.stage.check_epoch(tx).await?;
        let definitions = Definitions::read(tx, green.kong_schema()).await?;
        let before = self.count_rows(tx).await?;
        let mut repaired = RepairedRows::default();
        let mut change: BTreeMap<&str, i64> = BTreeMap::new();
        // Children first: what they refer to is about to change.
        for table in tables.iter().rev() {
            self.move_aside(tx, table).await.map_err(|e| context.refused_by_green(e, table))?;
        }
        for table in tables.iter().rev() {
            let deleted = self.delete(tx, table).await.map_err(|e| self.not_deleted(e, table))?;
            *change.entry(&table.table).or_default() -= deleted.cast_signed();
            repaired.removed += deleted;
        }
        for table in tables {
            let (updated, inserted) = self.write(tx, table).await.map_err(|e| self.not_written(e, table))?;
            *change.entry(&table.table).or_default() += inserted.cast_signed();
            repaired.written += updated + inserted;
        }
        for table in tables.iter().filter(|table| context.ledger.contains(&table.table)) {
            let action = format!("cannot update the ledger of \"{}\"", table.table);
            self.update_ledger(tx, table).await.during(green, &action)?;
        }
        context.ledger.insert_writer(green, tx, context.stage.run()).await?;
        repaired.tags = self.repair_tags(tx).await.during(green, "cannot repair green's tags")?;
        let after = self.count_rows(tx).await?;
        check_counts(&before, &after, &change)?;
        compare_tags(context, tx, None).await?;
        let definitions_after = Definitions::read(tx, green.kong_schema()).await?;
        definitions.check_unchanged(&definitions_after, &BTreeSet::new())?;
        Ok(repaired)
    }

    fn work(&self) -> String {
        quote(self.0.green().work_schema())
    }

    /// Frees unique values and references of the rows to write.
    async fn move_aside(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<()> {
        let cleared = self.cleared_columns(table);
        if cleared.is_empty() {
            return Ok(());
        }
        let sql = self.fill(
            table,
            include_str!("../../sql/row_repair/move_aside.sql"),
            &[("cleared", &cleared.join(", "))],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }

    /// References become null, and so does one column of each unique index; where none is nullable, a text column becomes
    /// a random text.
    fn cleared_columns(&self, table: &TablePlan) -> Vec<String> {
        let Some(on_green) = self.0.table(&table.table) else { return Vec::new() };
        let workspace = self.0.map.names.workspace_column.as_deref();
        let is_free = |name: &&String| {
            !table.key.contains(name)
                && workspace != Some(name.as_str())
                && table.columns.iter().any(|column| column.name == **name)
        };
        let may_be_null = |name: &&String| on_green.column(name).is_some_and(|column| !column.not_null);
        let is_text =
            |name: &&String| on_green.column(name).is_some_and(|column| column.column_type == "text");
        let mut cleared = BTreeMap::new();
        let references = on_green.foreign_keys.iter().flat_map(|key| &key.columns);
        for name in references.filter(is_free).filter(may_be_null) {
            cleared.insert(name, "null".to_owned());
        }
        for index in on_green.indexes.iter().filter(|index| index.unique && !index.primary) {
            let mut columns = index.columns.iter().filter(is_free);
            let first_null = columns.clone().find(may_be_null);
            if let Some(name) = first_null {
                cleared.insert(name, "null".to_owned());
            } else if let Some(name) = columns.find(is_text) {
                cleared.insert(
                    name,
                    "md5(random()::text || clock_timestamp()::text || g.ctid::text)".to_owned(),
                );
            }
        }
        cleared.into_iter().map(|(name, value)| format!("{} = {value}", quote(name))).collect()
    }

    async fn delete(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<u64> {
        let sql = self.fill(table, include_str!("../../sql/row_repair/delete.sql"), &[("remove", "true")]);
        Ok(sqlx::raw_sql(sql).execute(tx).await?.rows_affected())
    }

    async fn write(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<(u64, u64)> {
        let sql = self.fill(table, include_str!("../../sql/row_repair/update.sql"), &[]);
        let updated = sqlx::raw_sql(sql).execute(&mut *tx).await?.rows_affected();
        let sql = self.fill(table, include_str!("../../sql/row_repair/insert.sql"), &[]);
        let inserted = sqlx::raw_sql(sql).execute(tx).await?.rows_affected();
        Ok((updated, inserted))
    }

    /// Inserts what was written, and deletes what was deleted.
    async fn update_ledger(&self, tx: &mut PgConnection, table: &TablePlan) -> sqlx::Result<()> {
        let staged: Vec<String> = table.key.iter().map(|name| format!("s.{}", quote(name))).collect();
        let expiry = table.expiry.as_ref().map(|column| format!("s.{}", quote(column)));
        let places = [
            ("ledger", ledger::relation(self.0.green(), &table.table)),
            ("keys", numbered_key(&table.key, "").join(", ")),
            ("ledger_is_selected", same_numbered_key(&table.key, "l", "k")),
            ("ledger_is_green", same_numbered_key(&table.key, "l", "g")),
            ("staged_keys", staged.join(", ")),
            ("expiry", expiry.unwrap_or_else(|| "null".to_owned())),
        ];
        let mut places: Vec<(&str, &str)> =
            places.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let written = self.fill(table, include_str!("../../sql/row_repair/ledger_insert.sql"), &places);
        sqlx::raw_sql(written).execute(&mut *tx).await?;
        places.push(("remove", "true"));
        let deleted = self.fill(table, include_str!("../../sql/row_repair/ledger_delete.sql"), &places);
        sqlx::raw_sql(deleted).execute(tx).await.map(|_| ())
    }

    async fn repair_tags(&self, tx: &mut PgConnection) -> sqlx::Result<u64> {
        let Some((tags, entities)) = tagged_entities(&self.0) else { return Ok(0) };
        let places = [
            ("entities", entities.as_str()),
            ("tags_ref", &self.0.stage.kong_table(&tags.table)),
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

    /// Unexpired rows of every table that is moved; what expires meanwhile is not counted.
    async fn count_rows(&self, tx: &mut PgConnection) -> Result<BTreeMap<String, i64>> {
        let mut rows = BTreeMap::new();
        for table in &self.0.plan.moved {
            let sql = fill(
                "select count(*) from {table_ref} g where {alive}",
                &[
                    ("table_ref", &self.0.stage.kong_table(&table.table)),
                    ("alive", &alive(table.expiry.as_deref(), "g")),
                ],
            );
            let action = format!("cannot count the rows of green's table \"{}\"", table.table);
            let count = query_scalar(sql).fetch_one(&mut *tx).await;
            rows.insert(table.table.clone(), count.during(self.0.green(), &action)?);
        }
        Ok(rows)
    }

    /// Fills what every statement about one table has in common.
    fn fill(&self, table: &TablePlan, template: &str, more: &[(&str, &str)]) -> sqlx::AssertSqlSafe<String> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
        let is_value = |name: &&&str| !table.key.iter().any(|key| key == **name);
        let assigned = names.iter().filter(is_value).map(|name| format!("{0} = s.{0}", quote(name)));
        let stage = self.0.stage;
        let common = [
            ("work", self.work()),
            ("table", literal(&table.table)),
            ("table_ref", stage.kong_table(&table.table)),
            ("stage", stage.table(&table.table)),
            ("columns", columns(&names, "")),
            ("staged", columns(&names, "s")),
            ("assigned", assigned.collect::<Vec<_>>().join(", ")),
            ("alive", alive(table.expiry.as_deref(), "s")),
            ("same_key", same_key(&table.key, "g", "s")),
            ("staged_is_selected", same_key(&table.key, "s", "k")),
            ("green_is_selected", same_key(&table.key, "g", "k")),
        ];
        let mut places = more.to_vec();
        places.extend(common.iter().map(|(name, value)| (*name, value.as_str())));
        places.push(("remove", "false"));
        let sqlx::AssertSqlSafe(selected) =
            fill(include_str!("../../sql/row_repair/selected_rows.sql"), &places);
        places.push(("selected", &selected));
        fill(template, &places)
    }

    fn not_written(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        self.0.refused_by_green(error, table).remedy(
            "Rows that blue lacks may have the unique values that these rows need, such as a name: check the findings, \
             and delete those rows with --delete-extra.",
        )
    }

    fn not_deleted(&self, error: sqlx::Error, table: &TablePlan) -> Error {
        let action = format!(
            "rows of \"{}\" that blue lacks cannot be deleted from green; nothing was repaired",
            table.table
        );
        self.0.explain(error, &action).remedy("Other rows of green refer to them: check the findings.")
    }
}

/// The key as an object: findings contain a key of one column as its value.
fn key_object(plan: &TablePlan, key: &Value) -> Value {
    match (key, plan.key.as_slice()) {
        (Value::Object(_), _) => key.clone(),
        (value, [name]) => Value::Object(Map::from_iter([(name.clone(), value.clone())])),
        (value, _) => value.clone(),
    }
}

/// Fails where rows changed that were not selected, such as rows that a foreign key of green deletes with their parent.
fn check_counts(
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
                format!(
                    "the repair would change rows of \"{table}\" that are not selected: {found} rows would remain \
                     instead of {expected}; nothing was repaired"
                ),
            )
            .detail("A foreign key of green may delete rows with the row that they refer to (ON DELETE CASCADE).")
            .remedy("Check the findings: delete those rows first, or repair them in the same run."));
        }
    }
    Ok(())
}
