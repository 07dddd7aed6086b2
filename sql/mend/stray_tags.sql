-- Rows of Kong's table of tags that do not say what an entity says.
delete from {tags_ref} t
where not exists (
  select from ({entities}) e
  where e.entity_id = t.{entity_id}
    and e.entity_name is not distinct from t.{entity_name}
    and e.tags is not distinct from t.{tags}
)
