-- Rows of Kong's table of tags that belong to no entity.
select t.{entity_id}::text as key, t.{entity_name} as name
from {tags_table} t
where not exists ({entities})
