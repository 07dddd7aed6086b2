//! The bulk load of a first run: indexes, keys, foreign keys and Kong's own triggers are dropped or disabled, rows and
//! `tags` are inserted set by set, and everything is restored exactly as it was, all in the applying transaction.
//!
//! It takes exclusive locks, so it is only for tables that no other session uses and that contain nothing but bootstrap
//! rows. Restoring checks every row: a violated foreign key or unique constraint ends the transaction. The definitions
//! are compared before the commit, as after every apply. Where something rules it out (a trigger that is not Kong's, a
//! missing privilege) rows are inserted with everything in place, and the reason is logged.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::apply_context::ApplyContext;
use super::session::During;
use super::sql::{fill, literal, quote};
use super::statement::{query_as, query_scalar};
use crate::catalog::green::GreenTable;
use crate::error::Result;
use crate::mapping::schema_map::{DerivedTags, Writer};
use crate::mapping::table_plan::TablePlan;

/// Fewer rows than this are inserted before the exclusive locks pay off.
pub const MIN_ROWS: u64 = 20_000;

/// What building one index may use to sort, where green's own setting is lower.
const INDEX_MEMORY: &str = "256MB";

/// SQLSTATE `unique_violation`.
const UNIQUE_VIOLATION: &str = "23505";

#[derive(Debug, Clone, Copy)]
pub(super) struct BulkLoad<'a> {
    pub context: ApplyContext<'a>,
}

/// A trigger, foreign key, constraint or index, with the statements that drop or disable it and restore it.
#[derive(Debug)]
struct DroppedObject {
    /// Its table, qualified and quoted where necessary.
    name: String,
    object: String,
    drop_sql: String,
    restore_sql: String,
}

/// In the order in which they were dropped.
#[derive(Debug)]
pub(super) struct Dropped(Vec<DroppedObject>);

impl BulkLoad<'_> {
    /// What rules it out, as a sentence without its full stop; `None` where nothing does.
    pub async fn obstacle(&self, tx: &mut PgConnection) -> Result<Option<String>> {
        let Some(tags) = self.tags() else {
            return Ok(Some("the schema map names no table of tags".to_owned()));
        };
        let mut functions = vec![tags.function.clone()];
        functions.extend(self.context.map.names.expiry_function.clone());
        let obstacle: Option<String> = query_scalar(include_str!("../../sql/bulk_load/obstacles.sql"))
            .bind(self.context.green().kong_schema())
            .bind(self.tables(tags))
            .bind(functions)
            .fetch_optional(&mut *tx)
            .await
            .during(self.context.green(), "cannot check whether a bulk load is possible")?;
        if obstacle.is_some() {
            return Ok(obstacle);
        }
        self.existing_rows(tx).await
    }

    /// Tables must be empty except for bootstrap rows, which are in tables without triggers that no traffic writes:
    /// without keys, rows on green could not be told from those to insert.
    async fn existing_rows(&self, tx: &mut PgConnection) -> Result<Option<String>> {
        for plan in self.context.plan.moved.iter().filter(|plan| self.must_be_empty(plan)) {
            let name = &plan.table;
            let table = self.context.stage.kong_table(name);
            let sql = fill("select exists (select from {table})", &[("table", &table)]);
            let action = format!("cannot read green's table \"{name}\"");
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.context.green(), &action)? {
                return Ok(Some(format!("the table \"{name}\" has rows already")));
            }
        }
        Ok(None)
    }

    /// Whether a bulk load is only possible while this table is empty.
    pub fn must_be_empty(&self, plan: &TablePlan) -> bool {
        let has_triggers = |table: &GreenTable| !table.triggers.is_empty();
        plan.writer == Writer::Traffic || self.context.table(&plan.table).is_some_and(has_triggers)
    }

    fn tags(&self) -> Option<&DerivedTags> {
        self.context.map.names.derived_tags.as_ref()
    }

    fn tables(&self, tags: &DerivedTags) -> Vec<String> {
        let mut tables: Vec<String> = self.context.plan.moved.iter().map(|plan| plan.table.clone()).collect();
        tables.push(tags.table.clone());
        tables
    }

    /// Drops everything that slows a load down, and disables the triggers.
    pub async fn drop_indexes(&self, tx: &mut PgConnection) -> Result<Dropped> {
        let action = "cannot drop indexes and constraints for the bulk load";
        let green = self.context.green();
        let tables = self.tags().map_or_else(Vec::new, |tags| self.tables(tags));
        let rows: Vec<(i32, String, String, String, String)> =
            query_as(include_str!("../../sql/bulk_load/drop_and_restore.sql"))
                .bind(green.kong_schema())
                .bind(tables)
                .fetch_all(&mut *tx)
                .await
                .during(green, action)?;
        let object =
            |(_, name, object, drop_sql, restore_sql)| DroppedObject { name, object, drop_sql, restore_sql };
        let objects: Vec<DroppedObject> = rows.into_iter().map(object).collect();
        for object in &objects {
            let sql = AssertSqlSafe(object.drop_sql.clone());
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(green, action)?;
        }
        Ok(Dropped(objects))
    }

    /// Fills the table that Kong's triggers would have filled, from the tables that have rows now: in the order of their
    /// names, so that the index of these names has nothing to sort.
    pub async fn fill_tags(&self, tx: &mut PgConnection, is_filled: impl Fn(&str) -> bool) -> Result<()> {
        let Some(tags) = self.tags() else { return Ok(()) };
        let mut tagged: Vec<_> = self.tagged(tags).filter(|(name, _)| is_filled(name)).collect();
        tagged.sort_unstable_by_key(|(name, _)| *name);
        for (name, table) in tagged {
            let sql = fill(
                include_str!("../../sql/bulk_load/fill_tags.sql"),
                &[
                    ("tags_ref", &self.context.stage.kong_table(&tags.table)),
                    ("entity_id", &quote(&tags.entity_id)),
                    ("entity_name", &quote(&tags.entity_name)),
                    ("tags", &quote(&tags.tags)),
                    ("id", &quote(table.primary_key.first().map_or("id", String::as_str))),
                    ("table", &literal(name)),
                    ("table_ref", &self.context.stage.kong_table(name)),
                ],
            );
            let action = format!("cannot write the tags of \"{name}\"");
            sqlx::raw_sql(sql).execute(&mut *tx).await.during(self.context.green(), &action)?;
        }
        Ok(())
    }

    /// Tables whose tags a trigger maintains, in the order in which they are filled.
    fn tagged(&self, tags: &DerivedTags) -> impl Iterator<Item = (&str, &GreenTable)> {
        self.context.plan.moved.iter().filter_map(|plan| {
            let table = self.context.table(&plan.table)?;
            table.calls(&tags.function).then_some((plan.table.as_str(), table))
        })
    }

    /// Restores everything: indexes and unique constraints before the foreign keys that need them, triggers last.
    pub async fn restore_indexes(&self, tx: &mut PgConnection, dropped: Dropped) -> Result<()> {
        let green = self.context.green();
        green.at_least(tx, "maintenance_work_mem", INDEX_MEMORY).await?;
        let without_quotes = |name: &str| name.replace('"', "");
        let tags_table = self.tags().map(|tags| without_quotes(&self.context.stage.kong_table(&tags.table)));
        for DroppedObject { name, object, restore_sql, .. } in dropped.0.into_iter().rev() {
            let restored = match self.tags() {
                Some(tags) if tags_table == Some(without_quotes(&name)) => {
                    self.restore_on_tags(tx, tags, &restore_sql).await
                }
                _ => sqlx::raw_sql(AssertSqlSafe(restore_sql)).execute(&mut *tx).await.map(|_| ()),
            };
            let action =
                format!("cannot restore \"{object}\" of {name} after the bulk load; nothing was applied");
            restored.during(green, action)?;
        }
        Ok(())
    }

    /// Two entities with one id show when the primary key is restored: searching for them beforehand would read all tags
    /// once more, and they are rare.
    async fn restore_on_tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        restore_sql: &str,
    ) -> sqlx::Result<()> {
        let mut attempt = tx.begin().await?;
        let restored = sqlx::raw_sql(AssertSqlSafe(restore_sql.to_owned())).execute(&mut *attempt).await;
        let Err(error) = restored else { return attempt.commit().await };
        attempt.rollback().await?;
        if super::explain::sqlstate(&error).is_none_or(|state| state != UNIQUE_VIOLATION) {
            return Err(error);
        }
        self.share_tags(tx, tags).await?;
        sqlx::raw_sql(AssertSqlSafe(restore_sql.to_owned())).execute(tx).await.map(|_| ())
    }

    async fn share_tags(&self, tx: &mut PgConnection, tags: &DerivedTags) -> sqlx::Result<()> {
        let tables: Vec<String> = self.tagged(tags).map(|(name, _)| literal(name)).collect();
        let sql = fill(
            include_str!("../../sql/bulk_load/share_tags.sql"),
            &[
                ("tags_ref", &self.context.stage.kong_table(&tags.table)),
                ("entity_id", &quote(&tags.entity_id)),
                ("entity_name", &quote(&tags.entity_name)),
                ("tags", &quote(&tags.tags)),
                ("tables", &format!("array[{}]::text[]", tables.join(", "))),
            ],
        );
        sqlx::raw_sql(sql).execute(tx).await.map(|_| ())
    }
}
