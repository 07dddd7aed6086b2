-- Rows whose unique value a row of green holds that stays as it is: that one is blue's as well, and was there first.
insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail)
select distinct on (m.row_id)
  {table},
  m.row_id,
  {columns},
  'duplicate',
  'green holds another row with the same value: ' || g.shown
from (select s.ctid as row_id, {staged_keys}, {named_parts} from {stage} s where {covered}) m
join (select {present_keys}, {present_shown}::text as shown, {named_parts} from {table_ref} g where ({covered}) and {present_alive}) g
  on {equal_parts}
where ({other_key})
  and not exists (select from {stage} s where {restaged})
  and not exists (select from {gone} d where {leaving})
order by m.row_id
