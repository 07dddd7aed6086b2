//! Checks of green alone: references to rows that do not exist, tags that do not match their entities, a second default
//! workspace.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::Value as Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::differences::{Difference, DifferenceKind, DifferenceLog};
use super::reading_rules::ReadingRules;
use crate::catalog::green::{ForeignKey, GreenCatalog, GreenTable};
use crate::error::Result;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, key, literal, quote};
use crate::green::statement::{query, query_scalar};
use crate::mapping::schema_map::{DerivedTags, Names, WorkspaceNames};

pub(super) struct GreenChecks<'a> {
    pub(super) green: &'a Green,
    pub(super) catalog: &'a GreenCatalog,
    pub(super) names: &'a Names,
}

impl GreenChecks<'_> {
    /// Runs all checks on these tables; `all_workspaces` unless the comparison is restricted to one.
    pub(super) async fn run(
        &self,
        tables: &[Arc<ReadingRules>],
        all_workspaces: bool,
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        let mut tx = self.green.begin_snapshot().await?;
        for (rules, table) in tables.iter().filter_map(|own| Some((own, self.catalog.tables.get(&own.name)?)))
        {
            for reference in &table.foreign_keys {
                self.orphans(&mut tx, table, &rules.workspace_condition(), reference, differences).await?;
            }
        }
        if let Some(tags) = &self.names.derived_tags {
            self.tags(&mut tx, tags, tables, all_workspaces, differences).await?;
        }
        self.default_workspaces(&mut tx, differences).await?;
        tx.rollback().await.during(self.green, "cannot check green")
    }

    async fn orphans(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
        workspace_condition: &str,
        reference: &ForeignKey,
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        let all_set: Vec<String> =
            reference.columns.iter().map(|column| format!("c.{} is not null", quote(column))).collect();
        let joined: Vec<String> = (reference.columns.iter().zip(&reference.parent_columns))
            .map(|(own, parent)| format!("p.{} = c.{}", quote(parent), quote(own)))
            .collect();
        let sql = fill(
            include_str!("../../sql/verify/orphans.sql"),
            &[
                ("key", &key(&table.primary_key, "c")),
                ("table", &quote(&table.name)),
                ("parent", &quote(&reference.parent)),
                ("all_set", &all_set.join(" and ")),
                ("scope", workspace_condition),
                ("joined", &joined.join(" and ")),
            ],
        );
        let action = format!("cannot check the references of green's table \"{}\"", table.name);
        let mut rows = query(sql).fetch(tx);
        while let Some(row) = rows.try_next().await.during(self.green, &action)? {
            let key: Json = row.try_get("key").during(self.green, &action)?;
            let mut difference = Difference::new(&table.name, key, DifferenceKind::Orphan);
            difference.column = Some(reference.columns.join(", "));
            differences.write(difference)?;
        }
        Ok(())
    }

    async fn tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        tables: &[Arc<ReadingRules>],
        all_workspaces: bool,
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        let tagged: Vec<&GreenTable> = (self.catalog.tables.values())
            .filter(|table| table.column(&tags.tags).is_some() && table.column("id").is_some())
            .filter(|table| table.calls(&tags.function))
            .collect();
        let select = |table: &&GreenTable| {
            let (name, table) = (literal(&table.name), quote(&table.name));
            format!("select id, {name} as name, {} as tags from {table}", quote(&tags.tags))
        };
        let entities = tagged.iter().map(select).collect::<Vec<_>>().join(" union all ");
        let scope_of = |name: &str| {
            tables.iter().find(|rules| rules.name == name).map(|rules| rules.workspace_condition())
        };
        for (table, scope) in tagged.iter().filter_map(|table| Some((table, scope_of(&table.name)?))) {
            let sql = fill(
                include_str!("../../sql/verify/tags.sql"),
                &[
                    ("table", &quote(&table.name)),
                    ("name", &literal(&table.name)),
                    ("scope", &scope),
                    ("entities", &entities),
                    ("tags_table", &quote(&tags.table)),
                    ("entity_id", &quote(&tags.entity_id)),
                    ("entity_name", &quote(&tags.entity_name)),
                    ("tags", &quote(&tags.tags)),
                ],
            );
            let action = format!("cannot compare the tags of green's table \"{}\"", table.name);
            let mut rows = query(sql).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await.during(self.green, &action)? {
                let key: String = row.try_get("key").during(self.green, &action)?;
                let kept: Option<Json> = row.try_get("kept").during(self.green, &action)?;
                let mut difference = Difference::new(&table.name, key.into(), DifferenceKind::TagsDiffer);
                difference.column = Some(tags.tags.clone());
                difference.green = kept.unwrap_or_default();
                differences.write(difference)?;
            }
        }
        if all_workspaces { self.stray_tags(tx, tags, &tagged, differences).await } else { Ok(()) }
    }

    async fn stray_tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        tagged: &[&GreenTable],
        differences: &mut DifferenceLog,
    ) -> Result<()> {
        if tagged.is_empty() || !self.catalog.tables.contains_key(&tags.table) {
            return Ok(());
        }
        // Distinct, because entities of two tables may have the same id.
        let select = |table: &&GreenTable| format!("select id from {}", quote(&table.name));
        let entities = tagged.iter().map(select).collect::<Vec<_>>().join(" union ");
        let sql = fill(
            include_str!("../../sql/verify/stray_tags.sql"),
            &[
                ("entity_id", &quote(&tags.entity_id)),
                ("entity_name", &quote(&tags.entity_name)),
                ("tags_table", &quote(&tags.table)),
                ("entities", &entities),
            ],
        );
        let action = "cannot find tags without an entity on green";
        let mut rows = query(sql).fetch(tx);
        while let Some(row) = rows.try_next().await.during(self.green, action)? {
            let key: String = row.try_get("key").during(self.green, action)?;
            let name: Option<String> = row.try_get("name").during(self.green, action)?;
            let table = name.unwrap_or_else(|| tags.table.clone());
            differences.write(Difference::new(&table, key.into(), DifferenceKind::TagsDiffer))?;
        }
        Ok(())
    }

    async fn default_workspaces(&self, tx: &mut PgConnection, differences: &mut DifferenceLog) -> Result<()> {
        let Some(names) = &self.names.workspaces else { return Ok(()) };
        let sql = fill(
            "select {id}::text as key from {table} where {name} = {default} order by 1",
            &[
                ("id", &quote(&names.id)),
                ("table", &quote(&names.table)),
                ("name", &quote(&names.name)),
                ("default", &literal(&names.default)),
            ],
        );
        let action = "cannot read the default workspaces on green";
        let rows = query(sql).fetch_all(tx).await.during(self.green, action)?;
        if rows.len() < 2 {
            return Ok(());
        }
        for row in rows {
            let key: String = row.try_get("key").during(self.green, action)?;
            differences.write(Difference::new(
                &names.table,
                key.into(),
                DifferenceKind::SecondDefaultWorkspace,
            ))?;
        }
        Ok(())
    }
}

/// Ids of the workspaces on green that have this name.
pub(super) async fn workspaces_named(green: &Green, names: &WorkspaceNames, name: &str) -> Result<Vec<Uuid>> {
    let sql = fill(
        "select {id} from {table} where {name} = $1",
        &[("id", &quote(&names.id)), ("table", &quote(&names.table)), ("name", &quote(&names.name))],
    );
    let read = async |tx: &mut PgConnection| Ok(query_scalar(sql).bind(name).fetch_all(tx).await?);
    green.read("cannot read the workspaces on green", read).await
}
