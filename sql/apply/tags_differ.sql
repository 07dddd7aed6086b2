-- What is wrong with the table that green's triggers keep: a row it lacks, has too many, or holds otherwise.
-- Sets in another order are the same tags; Kong's triggers keep an entity without tags as well.
with expected as (
  {entities}
)
select count(*)
from expected e
full join {tags_ref} t on t.{entity_id} = e.entity_id
where e.entity_id is null
   or t.{entity_id} is null
   or t.{entity_name} is distinct from e.entity_name
   or t.{tags} is distinct from e.tags
