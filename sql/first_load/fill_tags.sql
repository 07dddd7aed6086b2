-- What Kong's triggers would have left for one table: a row per entity, also for those without tags. Two entities may
-- have the same id; like the triggers, they share one row, with the first one's name and the last one's tags.
insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select e.{id}, {table}, e.{tags}
from {table_ref} e
on conflict ({entity_id}) do update set {tags} = excluded.{tags}
