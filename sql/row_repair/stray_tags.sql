-- Deletes rows of Kong's table of tags that agree with no entity. Entities of two tables that have the same id share a
-- row, which may have the name of one and the tags of the other.
delete from {tags_ref} t
where not exists (
    select from ({entities}) e
    where e.entity_id = t.{entity_id} and e.entity_name is not distinct from t.{entity_name}
  )
  or not exists (
    select from ({entities}) e
    where e.entity_id = t.{entity_id} and e.tags is not distinct from t.{tags}
  )
