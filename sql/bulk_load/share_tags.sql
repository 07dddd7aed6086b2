-- Two entities of different tables may have the same id. As Kong's triggers would have left them, they share one row,
-- with the name of the table that was filled first and the tags of the one that was filled last ({tables} in that order).
with shared as (
  select t.*, array_position({tables}, t.{entity_name}) as position
  from {tags_ref} t
  where t.{entity_id} in (select {entity_id} from {tags_ref} group by {entity_id} having count(*) > 1)
), first as (
  select distinct on ({entity_id}) {entity_id}, {entity_name} from shared order by {entity_id}, position nulls first
), last as (
  select distinct on ({entity_id}) {entity_id}, {tags} from shared order by {entity_id}, position desc nulls last
), removed as (
  delete from {tags_ref} t using first f where t.{entity_id} = f.{entity_id}
)
insert into {tags_ref} ({entity_id}, {entity_name}, {tags})
select f.{entity_id}, f.{entity_name}, l.{tags}
from first f
join last l using ({entity_id})
