//! The table of tags that Kong's triggers keep, and what it must hold.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::Apply;
use crate::catalog::green::GreenTable;
use crate::error::{Error, Result};
use crate::green::session::During;
use crate::green::sql::{fill, literal, quote};
use crate::green::statement::query_scalar;
use crate::mapping::schema_map::DerivedTags;

impl Apply<'_> {
    /// The table that Kong's triggers keep must hold exactly what the entities hold.
    pub(in crate::green) async fn compare_tags(
        &self,
        tx: &mut PgConnection,
        at_work: Option<&BTreeSet<String>>,
    ) -> Result<()> {
        let Some(tags) = &self.map.names.derived_tags else { return Ok(()) };
        if !self.catalog.tables.contains_key(&tags.table) {
            return Ok(());
        }
        let kept =
            |name: &&String| self.catalog.tables.get(*name).is_some_and(|table| table.calls(&tags.function));
        let names: Vec<&String> = self.catalog.tables.keys().filter(kept).collect();
        // An incremental run looks at the ids that it wrote; other rows it did not touch.
        let written = at_work.map(|tables| {
            let at_work: Vec<&String> = names.iter().copied().filter(|name| tables.contains(*name)).collect();
            self.written_ids(&at_work)
        });
        if names.is_empty() || written.as_ref().is_some_and(String::is_empty) {
            return Ok(());
        }
        let entities: Vec<String> =
            names.iter().map(|name| self.entities(name, &tags.tags, written.as_deref())).collect();
        let tags_ref = self.stage.kong_table(&tags.table);
        let tags_ref = match &written {
            None => tags_ref,
            Some(ids) => {
                format!("(select * from {tags_ref} where {} in ({ids}))", quote(&tags.entity_id))
            }
        };
        let entities = entities.join("\n  union all\n  ");
        let (entity_id, entity_name, sets) =
            (quote(&tags.entity_id), quote(&tags.entity_name), quote(&tags.tags));
        let places = [
            ("entities", entities.as_str()),
            ("tags_ref", &tags_ref),
            ("entity_id", &entity_id),
            ("entity_name", &entity_name),
            ("tags", &sets),
        ];
        let what = "cannot compare green's tags";
        if self.stage.green().hashes_rows() {
            let sql = fill(include_str!("../../../sql/apply/tags_agree.sql"), &places);
            if query_scalar(sql).fetch_one(&mut *tx).await.during(self.stage.green(), what)? {
                return Ok(());
            }
        }
        let sql = fill(include_str!("../../../sql/apply/tags_differ.sql"), &places);
        let differing: i64 = query_scalar(sql).fetch_one(tx).await.during(self.stage.green(), what)?;
        if differing == 0 {
            return Ok(());
        }
        Err(Error::refused(format!("green's table \"{}\" would not hold what its entities hold: {differing} rows differ", tags.table))
            .detail("Green is as it was. Either a trigger of Kong is disabled there, or the table held rows of entities that are gone.")
            .remedy(format!("Bootstrap green afresh, or look at the triggers that call {}().", tags.function)))
    }

    /// The names around green's table of tags, and the query for what it must hold; nothing where green keeps none.
    pub(in crate::green) fn tagged_entities(&self) -> Option<(&DerivedTags, String)> {
        let tags = self.map.names.derived_tags.as_ref()?;
        self.catalog.tables.get(&tags.table)?;
        let kept = |table: &&GreenTable| table.calls(&tags.function);
        let entities: Vec<String> = (self.catalog.tables.values().filter(kept))
            .map(|table| self.entities(&table.name, &tags.tags, None))
            .collect();
        (!entities.is_empty()).then(|| (tags, entities.join("\n  union all\n  ")))
    }

    fn entities(&self, table: &str, tags: &str, written: Option<&str>) -> String {
        let primary =
            self.catalog.tables.get(table).and_then(|t| t.primary_key.first()).map_or("id", String::as_str);
        let only = written.map_or_else(String::new, |ids| format!(" where {} in ({ids})", quote(primary)));
        format!(
            "select {} as entity_id, {} as entity_name, {} as tags from {}{only}",
            quote(primary),
            literal(table),
            quote(tags),
            self.stage.kong_table(table)
        )
    }

    /// The ids of all entities that an incremental run wrote or deleted.
    fn written_ids(&self, tables: &[&String]) -> String {
        let ids = |table: &&&String| {
            let merge = self.merge.as_ref()?;
            let primary = self.catalog.tables.get(**table)?.primary_key.first()?;
            let staged = self
                .plan
                .table(table)
                .map(|_| format!("select {} from {}", quote(primary), self.stage.table(table)));
            let gone = format!("select key_1 from {}", merge.gone.table(table));
            Some(staged.into_iter().chain([gone]).collect::<Vec<_>>().join(" union all "))
        };
        tables.iter().filter_map(|table| ids(&table)).collect::<Vec<_>>().join(" union all ")
    }
}
