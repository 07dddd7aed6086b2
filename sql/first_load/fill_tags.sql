-- What Kong's triggers would have left for one table: a row per entity, also for those without tags. The table's key is
-- off meanwhile: where two entities have the same id, share_tags.sql lets them share one row.
insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select e.{id}, {table}, e.{tags}
from {table_ref} e
