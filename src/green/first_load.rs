//! The quick way of a first load: indexes, keys, references and Kong's own triggers are taken off, rows and `tags` are
//! inserted set by set, and everything is put back exactly as it was – all in the applying transaction.
//!
//! It takes exclusive locks, so it is only for tables that nobody uses and that hold nothing but bootstrap rows. Putting
//! back checks every row anew: a reference or a unique constraint that does not hold ends the transaction. That the
//! definitions are the same is compared before the commit, as after every apply. Where anything speaks against it –
//! somebody's own trigger, a missing right – rows go in with everything in place, and the reason is said.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::sql::{fill, literal, quote};
use super::stage::Stage;
use super::statement::{query_as, query_scalar};
use crate::catalog::green::{GreenCatalog, GreenTable};
use crate::error::Result;
use crate::green::session::During;
use crate::mapping::schema_map::{DerivedTags, Names, Writer};
use crate::mapping::table_plan::{KeyspacePlan, TablePlan};

/// Fewer rows than this are in before the locks would pay.
pub const WORTH_IT: u64 = 20_000;

/// What building one index may use to sort, where green is not more generous by itself.
const INDEX_MEMORY: &str = "256MB";

/// The SQLSTATE of two rows with one value.
const UNIQUE_VIOLATION: &str = "23505";

/// One thing taken off, and how it comes back.
type Part = (i32, String, String, String, String);

/// A first load of the plan's tables.
#[derive(Debug, Clone, Copy)]
pub struct FirstLoad<'a> {
    /// The checked stage.
    pub stage: &'a Stage,
    /// What is loaded.
    pub plan: &'a KeyspacePlan,
    /// Green's tables.
    pub catalog: &'a GreenCatalog,
    /// Names that the whole line shares.
    pub names: &'a Names,
}

/// What was taken off, in that order.
#[derive(Debug)]
pub struct TakenOff(Vec<Part>);

impl FirstLoad<'_> {
    /// What speaks against it, as a sentence; nothing where it may be done.
    pub async fn obstacle(&self, tx: &mut PgConnection) -> Result<Option<String>> {
        let what = "cannot look whether the quick way is open";
        let Some(tags) = &self.names.derived_tags else {
            return Ok(Some("the schema map names no table of tags".to_owned()));
        };
        let mut functions = vec![tags.function.clone()];
        functions.extend(self.names.expiry_function.clone());
        let obstacle: Option<String> = query_scalar(include_str!("../../sql/first_load/obstacles.sql"))
            .bind(self.stage.green().kong_schema())
            .bind(self.tables(tags))
            .bind(functions)
            .fetch_optional(&mut *tx)
            .await
            .during(self.stage.green(), what)?;
        if obstacle.is_some() {
            return Ok(obstacle);
        }
        self.first_rows(tx).await
    }

    /// Tables must be empty but for what the bootstrap made, which stands in tables without triggers that no traffic
    /// writes: without keys, nothing would tell rows that are there already from those that come.
    async fn first_rows(&self, tx: &mut PgConnection) -> Result<Option<String>> {
        for name in self.plan.moved.iter().filter(|plan| self.begins_empty(plan)).map(|plan| &plan.table) {
            let sql = fill("select exists (select from {table})", &[("table", &self.stage.kong_table(name))]);
            let what = format!("cannot look into green's table \"{name}\"");
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), &what)? {
                return Ok(Some(format!("the table {name} holds rows already")));
            }
        }
        Ok(None)
    }

    /// Whether the quick way is only open where this table holds nothing.
    pub fn begins_empty(&self, plan: &TablePlan) -> bool {
        let has_triggers = |table: &GreenTable| !table.triggers.is_empty();
        plan.writer == Writer::Traffic || self.catalog.tables.get(&plan.table).is_some_and(has_triggers)
    }

    fn tables(&self, tags: &DerivedTags) -> Vec<String> {
        let mut tables: Vec<String> = self.plan.moved.iter().map(|plan| plan.table.clone()).collect();
        tables.push(tags.table.clone());
        tables
    }

    /// Takes everything off that slows a load down.
    pub async fn take_off(&self, tx: &mut PgConnection) -> Result<TakenOff> {
        let what = "cannot take indexes and constraints off for the load";
        let green = self.stage.green();
        let tables = self.names.derived_tags.as_ref().map_or_else(Vec::new, |tags| self.tables(tags));
        let parts: Vec<Part> = query_as(include_str!("../../sql/first_load/parts.sql"))
            .bind(green.kong_schema())
            .bind(tables)
            .fetch_all(&mut *tx)
            .await
            .during(green, what)?;
        for (_, _, _, off, _) in &parts {
            sqlx::raw_sql(AssertSqlSafe(off.clone())).execute(&mut *tx).await.during(green, what)?;
        }
        Ok(TakenOff(parts))
    }

    /// Fills the table that Kong's triggers would have kept, from the tables in which rows stand now: in the order of their
    /// names, so that the index of these names has nothing to sort.
    pub async fn fill_tags(&self, tx: &mut PgConnection, filled: impl Fn(&str) -> bool) -> Result<()> {
        let Some(tags) = &self.names.derived_tags else { return Ok(()) };
        let green = self.stage.green();
        let mut tagged: Vec<_> = self.tagged(tags).filter(|(name, _)| filled(name)).collect();
        tagged.sort_unstable_by_key(|(name, _)| *name);
        for (name, table) in tagged {
            let sql = fill(
                include_str!("../../sql/first_load/fill_tags.sql"),
                &[
                    ("tags_ref", &self.stage.kong_table(&tags.table)),
                    ("entity_id", &quote(&tags.entity_id)),
                    ("entity_name", &quote(&tags.entity_name)),
                    ("tags", &quote(&tags.tags)),
                    ("id", &quote(table.primary_key.first().map_or("id", String::as_str))),
                    ("table", &literal(name)),
                    ("table_ref", &self.stage.kong_table(name)),
                ],
            );
            let what = format!("cannot write the tags of \"{name}\"");
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, &what)?;
        }
        Ok(())
    }

    /// Tables whose tags a trigger keeps, in the order in which they are filled.
    fn tagged(&self, tags: &DerivedTags) -> impl Iterator<Item = (&str, &GreenTable)> {
        self.plan.moved.iter().filter_map(|plan| {
            let table = self.catalog.tables.get(&plan.table)?;
            table.calls(&tags.function).then_some((plan.table.as_str(), table))
        })
    }

    /// Puts everything back: indexes and unique constraints before the references that need them, triggers last.
    pub async fn put_back(&self, tx: &mut PgConnection, taken: TakenOff) -> Result<()> {
        self.stage.green().at_least(tx, "maintenance_work_mem", INDEX_MEMORY).await?;
        for (_, table, part, _, back) in taken.0.into_iter().rev() {
            let done = match &self.names.derived_tags {
                Some(tags)
                    if table.replace('"', "") == self.stage.kong_table(&tags.table).replace('"', "") =>
                {
                    self.put_back_on_tags(tx, tags, &back).await
                }
                _ => sqlx::raw_sql(AssertSqlSafe(back)).execute(&mut *tx).await.map(|_| ()),
            };
            done.map_err(|e| {
                let what = format!("cannot put {part} of {table} back after the load; nothing was applied");
                self.stage.green().explain(e, &what)
            })?;
        }
        Ok(())
    }

    /// Two entities with one id are noticed when the key comes back: to look for them beforehand would be to read all
    /// tags once more, and hardly anybody has them.
    async fn put_back_on_tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        back: &str,
    ) -> sqlx::Result<()> {
        let mut attempt = tx.begin().await?;
        let Err(error) = sqlx::raw_sql(AssertSqlSafe(back.to_owned())).execute(&mut *attempt).await else {
            return attempt.commit().await;
        };
        attempt.rollback().await?;
        if super::explain::sqlstate(&error).is_none_or(|state| state != UNIQUE_VIOLATION) {
            return Err(error);
        }
        self.share_tags(tx, tags).await?;
        sqlx::raw_sql(AssertSqlSafe(back.to_owned())).execute(tx).await.map(|_| ())
    }

    async fn share_tags(&self, tx: &mut PgConnection, tags: &DerivedTags) -> sqlx::Result<()> {
        let tables: Vec<String> = self.tagged(tags).map(|(name, _)| literal(name)).collect();
        let sql = fill(
            include_str!("../../sql/first_load/share_tags.sql"),
            &[
                ("tags_ref", &self.stage.kong_table(&tags.table)),
                ("entity_id", &quote(&tags.entity_id)),
                ("entity_name", &quote(&tags.entity_name)),
                ("tags", &quote(&tags.tags)),
                ("tables", &format!("array[{}]::text[]", tables.join(", "))),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }
}
