-- Rows whose unique value belongs to a row of green that the run neither changes nor deletes: that row is also blue's
-- and was there first.
insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail)
select distinct on (m.row_id)
  {table},
  m.row_id,
  {columns},
  'duplicate',
  'green holds another row with the same value: ' || g.shown
from (select s.ctid as row_id, {staged_keys}, {named_parts} from {stage} s where {covered}) m
join (select {green_keys}, {green_key_json}::text as shown, {named_parts} from {table_ref} g where ({covered}) and {alive}) g
  on {equal_parts}
where ({other_key})
  and not exists (select from {stage} s where {restaged})
  and not exists (select from {deletions} d where {is_deleted})
order by m.row_id
