//! What can be wrong on green whatever blue holds: orphans, tags unlike their entities, a second default workspace.

use serde_json::Value as Shown;
use sqlx::{PgConnection, Row};

use super::findings::{Finding, Findings, What};
use crate::error::Result;
use crate::green::catalog::{ForeignKey, GreenCatalog, GreenTable};
use crate::green::session::Green;
use crate::green::sql::{fill, key, literal, quote};
use crate::green::statement::query;
use crate::mapping::schema_map::{DerivedTags, Names};

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
    /// Runs all checks over these tables; says how many findings there are.
    pub async fn run(&self, tables: &[String], findings: &mut Findings) -> Result<u64> {
        let before = findings.count;
        let mut tx = self.green.begin_snapshot().await?;
        for table in tables.iter().filter_map(|name| self.catalog.tables.get(name)) {
            for reference in &table.foreign_keys {
                self.orphans(&mut tx, table, reference, findings).await?;
            }
        }
        if let Some(tags) = &self.names.derived_tags {
            self.tags(&mut tx, tags, tables, findings).await?;
        }
        self.defaults(&mut tx, findings).await?;
        tx.rollback().await.map_err(|e| self.green.explain(e, "cannot end a look at green"))?;
        Ok(findings.count - before)
    }

    async fn orphans(
        &self,
        tx: &mut PgConnection,
        table: &GreenTable,
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
                ("joined", &joined.join(" and ")),
            ],
        );
        let what = format!("cannot look for orphans in green's table \"{}\"", table.name);
        let rows = query(sql).fetch_all(tx).await.map_err(|e| self.green.explain(e, &what))?;
        for row in rows {
            let key: Shown = row.try_get("key").map_err(|e| self.green.explain(e, &what))?;
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
        tables: &[String],
        findings: &mut Findings,
    ) -> Result<()> {
        let tagged: Vec<&GreenTable> = (self.catalog.tables.values())
            .filter(|table| table.column(&tags.tags).is_some() && table.column("id").is_some())
            .filter(|table| table.triggers.iter().any(|trigger| trigger.function == tags.function))
            .collect();
        let one = |table: &&GreenTable| {
            let (name, table) = (literal(&table.name), quote(&table.name));
            format!("select id, {name} as name, {} as tags from {table}", quote(&tags.tags))
        };
        let entities = tagged.iter().map(one).collect::<Vec<_>>().join(" union all ");
        for table in tagged.iter().filter(|table| tables.contains(&table.name)) {
            let sql = fill(
                include_str!("../../sql/verify/tags.sql"),
                &[
                    ("table", &quote(&table.name)),
                    ("name", &literal(&table.name)),
                    ("entities", &entities),
                    ("tags_table", &quote(&tags.table)),
                    ("entity_id", &quote(&tags.entity_id)),
                    ("entity_name", &quote(&tags.entity_name)),
                    ("tags", &quote(&tags.tags)),
                ],
            );
            let what = format!("cannot compare the tags of green's table \"{}\"", table.name);
            for row in query(sql).fetch_all(&mut *tx).await.map_err(|e| self.green.explain(e, &what))? {
                let key: String = row.try_get("key").map_err(|e| self.green.explain(e, &what))?;
                let kept: Option<Shown> = row.try_get("kept").map_err(|e| self.green.explain(e, &what))?;
                let mut finding = line(&table.name, key.into(), What::TagsDiffer);
                finding.column = Some(tags.tags.clone());
                finding.green = kept.unwrap_or_default();
                findings.write(finding)?;
            }
        }
        self.stray_tags(tx, tags, &tagged, findings).await
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
        let one = |table: &&GreenTable| {
            format!("select from {} e where e.id = t.{}", quote(&table.name), quote(&tags.entity_id))
        };
        let entities = tagged.iter().map(one).collect::<Vec<_>>().join(" union all ");
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
        for row in query(sql).fetch_all(tx).await.map_err(|e| self.green.explain(e, what))? {
            let key: String = row.try_get("key").map_err(|e| self.green.explain(e, what))?;
            let name: Option<String> = row.try_get("name").map_err(|e| self.green.explain(e, what))?;
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
        let rows = query(sql).fetch_all(tx).await.map_err(|e| self.green.explain(e, what))?;
        if rows.len() < 2 {
            return Ok(());
        }
        for row in rows {
            let key: String = row.try_get("key").map_err(|e| self.green.explain(e, what))?;
            findings.write(line(&names.table, key.into(), What::SecondDefaultWorkspace))?;
        }
        Ok(())
    }
}

fn line(table: &str, key: Shown, kind: What) -> Finding {
    Finding { table: table.to_owned(), key, kind, column: None, blue: Shown::Null, green: Shown::Null }
}
