-- Rows of Kong's table of tags that belong to no entity.
select t.{entity_id}::text as key, t.{entity_name} as name
from {tags_table} t
left join ({entities}) e on e.id = t.{entity_id}
where e.id is null
