-- Entities whose tags in Kong's table of tags are not their own. Sets in another order are the same tags, and no tags
-- are the same as empty ones. An entity of another table with the same id shares the row, which may have its name or tags.
select e.id::text as key, to_jsonb(t.{tags}) as kept
from {table} e
left join {tags_table} t on t.{entity_id} = e.id
where {scope}
  and (
    t.{entity_id} is null
    or (t.{entity_name} is distinct from {name}
        and not exists (select from ({entities}) o where o.id = e.id and o.name = t.{entity_name}))
    -- Most are the same in the same order, and need no sorting.
    or (t.{tags} is distinct from e.{tags}
        and (select array_agg(tag order by tag) from unnest(t.{tags}) tag)
          is distinct from (select array_agg(tag order by tag) from unnest(e.{tags}) tag)
        and not exists (
          select from ({entities}) o
          where o.id = e.id
            and (select array_agg(tag order by tag) from unnest(o.tags) tag)
              is not distinct from (select array_agg(tag order by tag) from unnest(t.{tags}) tag)
        ))
  )
