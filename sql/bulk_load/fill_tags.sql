-- The rows that Kong's triggers would have inserted for one table: one per entity, also for those without tags. The primary
-- key of the table of tags is dropped meanwhile: where two entities have the same id, share_tags.sql merges their rows.
insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select e.{id}, {table}, e.{tags}
from {table_ref} e
