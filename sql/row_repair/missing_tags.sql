-- Inserts the entities that Kong's table of tags lacks; its trigger inserts those without tags as well.
insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select distinct on (e.entity_id) e.entity_id, e.entity_name, e.tags
from ({entities}) e
where not exists (select from {tags_ref} t where t.{entity_id} = e.entity_id)
