//! What can be wrong on green whatever blue holds: orphans, tags unlike their entities, a second default workspace.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::Value as Shown;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::findings::{Finding, Findings, What};
use super::rules::Table;
use crate::catalog::green::{ForeignKey, GreenCatalog, GreenTable};
use crate::error::Result;
use crate::green::session::During;
use crate::green::session::Green;
use crate::green::sql::{fill, key, literal, quote};
use crate::green::statement::{query, query_scalar};
use crate::mapping::schema_map::{DerivedTags, Names, WorkspaceNames};

/// Looks at Kong's tables on green.
pub struct Checks<'a> {
    /// Green.
    pub green: &'a Green,
    /// Its tables.
    pub catalog: &'a GreenCatalog,
    /// Names with a meaning.
    pub names: &'a Names,
}

impl Checks<'_> {
    /// Runs all checks over these tables; `everywhere` unless only one workspace is looked at.
    pub async fn run(&self, tables: &[Arc<Table>], everywhere: bool, findings: &mut Findings) -> Result<()> {
        let mut tx = self.green.begin_snapshot().await?;
        for (scope, table) in tables.iter().filter_map(|own| Some((own, self.catalog.tables.get(&own.name)?)))
        {
            for reference in &table.foreign_keys {
                self.orphans(&mut tx, table, &scope.scope_on_green(), reference, findings).await?;
            }
        }
        if let Some(tags) = &self.names.derived_tags {
            self.tags(&mut tx, tags, tables, everywhere, findings).await?;
        }
        self.defaults(&mut tx, findings).await?;
        tx.rollback().await.during(&self.green, "cannot end a look at green")
    }

    async fn orphans(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
        scope: &str,
        reference: &ForeignKey,
        findings: &mut Findings,
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
                ("scope", scope),
                ("joined", &joined.join(" and ")),
            ],
        );
        let what = format!("cannot look for orphans in green's table \"{}\"", table.name);
        let mut rows = query(sql).fetch(tx);
        while let Some(row) = rows.try_next().await.during(&self.green, &what)? {
            let key: Shown = row.try_get("key").during(&self.green, &what)?;
            let mut finding = line(&table.name, key, What::Orphan);
            finding.column = Some(reference.columns.join(", "));
            findings.write(finding)?;
        }
        Ok(())
    }

    async fn tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        tables: &[Arc<Table>],
        everywhere: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        let tagged: Vec<&GreenTable> = (self.catalog.tables.values())
            .filter(|table| table.column(&tags.tags).is_some() && table.column("id").is_some())
            .filter(|table| table.calls(&tags.function))
            .collect();
        let one = |table: &&GreenTable| {
            let (name, table) = (literal(&table.name), quote(&table.name));
            format!("select id, {name} as name, {} as tags from {table}", quote(&tags.tags))
        };
        let entities = tagged.iter().map(one).collect::<Vec<_>>().join(" union all ");
        let scope_of =
            |name: &str| tables.iter().find(|own| own.name == name).map(|own| own.scope_on_green());
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
            let what = format!("cannot compare the tags of green's table \"{}\"", table.name);
            let mut rows = query(sql).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await.during(&self.green, &what)? {
                let key: String = row.try_get("key").during(&self.green, &what)?;
                let kept: Option<Shown> = row.try_get("kept").during(&self.green, &what)?;
                let mut finding = line(&table.name, key.into(), What::TagsDiffer);
                finding.column = Some(tags.tags.clone());
                finding.green = kept.unwrap_or_default();
                findings.write(finding)?;
            }
        }
        if everywhere { self.stray_tags(tx, tags, &tagged, findings).await } else { Ok(()) }
    }

    async fn stray_tags(
        &self,
        tx: &mut PgConnection,
        tags: &DerivedTags,
        tagged: &[&GreenTable],
        findings: &mut Findings,
    ) -> Result<()> {
        if tagged.is_empty() || !self.catalog.tables.contains_key(&tags.table) {
            return Ok(());
        }
        // Distinct, because entities of two tables may have the same id.
        let one = |table: &&GreenTable| format!("select id from {}", quote(&table.name));
        let entities = tagged.iter().map(one).collect::<Vec<_>>().join(" union ");
        let sql = fill(
            include_str!("../../sql/verify/stray_tags.sql"),
            &[
                ("entity_id", &quote(&tags.entity_id)),
                ("entity_name", &quote(&tags.entity_name)),
                ("tags_table", &quote(&tags.table)),
                ("entities", &entities),
            ],
        );
        let what = "cannot look for tags without an entity on green";
        let mut rows = query(sql).fetch(tx);
        while let Some(row) = rows.try_next().await.during(&self.green, what)? {
            let key: String = row.try_get("key").during(&self.green, what)?;
            let name: Option<String> = row.try_get("name").during(&self.green, what)?;
            let table = name.unwrap_or_else(|| tags.table.clone());
            findings.write(line(&table, key.into(), What::TagsDiffer))?;
        }
        Ok(())
    }

    async fn defaults(&self, tx: &mut PgConnection, findings: &mut Findings) -> Result<()> {
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
        let what = "cannot look for default workspaces on green";
        let rows = query(sql).fetch_all(tx).await.during(&self.green, what)?;
        if rows.len() < 2 {
            return Ok(());
        }
        for row in rows {
            let key: String = row.try_get("key").during(&self.green, what)?;
            findings.write(line(&names.table, key.into(), What::SecondDefaultWorkspace))?;
        }
        Ok(())
    }
}

fn line(table: &str, key: Shown, kind: What) -> Finding {
    Finding {
        table: table.to_owned(),
        key,
        kind,
        column: None,
        blue: Shown::Null,
        green: Shown::Null,
        after_repair: false,
    }
}

/// The workspaces on green that have this name.
pub async fn workspaces_named(green: &Green, names: &WorkspaceNames, wanted: &str) -> Result<Vec<Uuid>> {
    let what = "cannot look for a workspace on green";
    let sql = fill(
        "select {id} from {table} where {name} = $1",
        &[("id", &quote(&names.id)), ("table", &quote(&names.table)), ("name", &quote(&names.name))],
    );
    let mut tx = green.begin_snapshot().await?;
    let ids = query_scalar(sql).bind(wanted).fetch_all(&mut *tx).await;
    let ids = ids.during(green, what)?;
    tx.rollback().await.during(green, what)?;
    Ok(ids)
}
