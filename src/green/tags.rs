//! The table of tags that Kong's triggers maintain, and what it must contain.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::apply_context::ApplyContext;
use super::merge::Merge;
use super::session::During;
use super::sql::{fill, literal, quote};
use super::statement::query_scalar;
use crate::catalog::green::GreenTable;
use crate::error::{Error, Result};
use crate::mapping::schema_map::DerivedTags;

/// Fails unless the table of tags contains exactly the tags of the entities. Of an incremental run only the ids that it
/// wrote or deleted are compared.
pub(super) async fn compare_tags(
    context: &ApplyContext<'_>,
    tx: &mut PgConnection,
    merged: Option<(&Merge<'_>, &BTreeSet<String>)>,
) -> Result<()> {
    let Some(tags) = tags_of(context) else { return Ok(()) };
    let tables: Vec<&GreenTable> = tagged_tables(context, tags)
        .filter(|table| merged.is_none_or(|(_, changed)| changed.contains(&table.name)))
        .collect();
    let written_ids = merged.map(|(merge, _)| merge.written_ids(&tables));
    if tables.is_empty() || written_ids.as_ref().is_some_and(String::is_empty) {
        return Ok(());
    }
    let entities = entities(context, tags, &tables, written_ids.as_deref());
    let tags_ref = context.stage.kong_table(&tags.table);
    let tags_ref = match &written_ids {
        None => tags_ref,
        Some(ids) => format!("(select * from {tags_ref} where {} in ({ids}))", quote(&tags.entity_id)),
    };
    let (entity_id, entity_name, sets) =
        (quote(&tags.entity_id), quote(&tags.entity_name), quote(&tags.tags));
    let places = [
        ("entities", entities.as_str()),
        ("tags_ref", &tags_ref),
        ("entity_id", &entity_id),
        ("entity_name", &entity_name),
        ("tags", &sets),
    ];
    let action = "cannot compare green's tags";
    if context.green().hashes_rows() {
        let sql = fill(include_str!("../../sql/apply/tags_agree.sql"), &places);
        if query_scalar(sql).fetch_one(&mut *tx).await.during(context.green(), action)? {
            return Ok(());
        }
    }
    let sql = fill(include_str!("../../sql/apply/tags_differ.sql"), &places);
    let differing: i64 = query_scalar(sql).fetch_one(tx).await.during(context.green(), action)?;
    if differing == 0 {
        return Ok(());
    }
    Err(Error::refused(format!(
        "green's table \"{}\" would not agree with the tags of its entities: {differing} rows differ; nothing was applied",
        tags.table
    ))
    .detail("Either a trigger of Kong is disabled on green, or the table had rows of entities that were deleted.")
    .remedy(format!("Bootstrap green again, or check the triggers that call {}().", tags.function)))
}

/// The names of the table of tags, and the query for what it must contain; `None` where green has no such table.
pub(super) fn tagged_entities<'a>(context: &ApplyContext<'a>) -> Option<(&'a DerivedTags, String)> {
    let tags = tags_of(context)?;
    let tables: Vec<&GreenTable> = tagged_tables(context, tags).collect();
    (!tables.is_empty()).then(|| (tags, entities(context, tags, &tables, None)))
}

fn tags_of<'a>(context: &ApplyContext<'a>) -> Option<&'a DerivedTags> {
    let tags = context.map.names.derived_tags.as_ref()?;
    context.table(&tags.table).map(|_| tags)
}

fn tagged_tables<'a>(
    context: &ApplyContext<'a>,
    tags: &'a DerivedTags,
) -> impl Iterator<Item = &'a GreenTable> {
    context.catalog.tables.values().filter(|table| table.calls(&tags.function))
}

fn entities(
    context: &ApplyContext<'_>,
    tags: &DerivedTags,
    tables: &[&GreenTable],
    written_ids: Option<&str>,
) -> String {
    let select = |table: &&GreenTable| {
        let primary = quote(table.primary_key.first().map_or("id", String::as_str));
        let only = written_ids.map_or_else(String::new, |ids| format!(" where {primary} in ({ids})"));
        format!(
            "select {primary} as entity_id, {} as entity_name, {} as tags from {}{only}",
            literal(&table.name),
            quote(&tags.tags),
            context.stage.kong_table(&table.name)
        )
    };
    tables.iter().map(select).collect::<Vec<_>>().join("\n  union all\n  ")
}
