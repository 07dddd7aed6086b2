-- Rows of the table of tags that green's triggers maintain which are missing, superfluous or different.
-- Kong's triggers insert a row for an entity without tags as well. Entities of two tables that have the same id share a
-- row: it may have the name of one and the tags of the other.
with expected as not materialized (
  {entities}
)
select count(*)
from expected e
full join {tags_ref} t on t.{entity_id} = e.entity_id
where e.entity_id is null
   or t.{entity_id} is null
   or (t.{entity_name} is distinct from e.entity_name
       and not exists (
         select from expected o where o.entity_id = t.{entity_id} and o.entity_name = t.{entity_name}
       ))
   or (t.{tags} is distinct from e.tags
       and not exists (
         select from expected o where o.entity_id = t.{entity_id} and o.tags is not distinct from t.{tags}
       ))
