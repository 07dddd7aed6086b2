-- Rows that a repair cannot write, because they are not in the stage: rejected there, or deleted from blue meanwhile.
select x.shown as key, coalesce(r.reason, 'not_on_blue') as reason, r.column_name
from {work}.stage_selected x
cross join lateral jsonb_populate_record(null::{table_ref}, x.key) k
left join lateral (
  select reason, column_name
  from {work}.stage_reject r
  where r.table_name = x.table_name and r.key = x.shown
  limit 1
) r on true
where x.table_name = {table}
  and not x.remove
  and not exists (select from {stage} s where {staged_is_selected})
order by x.shown::text
