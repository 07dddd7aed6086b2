-- What is wrong with the table that green's triggers keep: a row it lacks, has too many, or holds otherwise.
-- Sets in another order are the same tags; Kong's triggers keep an entity without tags as well. Entities of two tables
-- that have the same id share a row: it may bear the name of one and the tags of the other.
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
