-- What Kong's triggers would have left for one table: a row per entity, also for those without tags. Two entities may
-- have the same id; like the triggers, they share one row, with the first one's name and the last one's tags. The table's
-- key is off meanwhile, so that this is two joins of whole tables and no ON CONFLICT.
update {tags_ref} t set {tags} = e.{tags} from {table_ref} e where t.{entity_id} = e.{id};

insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select e.{id}, {table}, e.{tags}
from {table_ref} e
where not exists (select from {tags_ref} t where t.{entity_id} = e.{id})
