(
  select k.*
  from {work}.stage_selected x
  cross join lateral jsonb_populate_record(null::{table_ref}, x.key) k
  where x.table_name = {table} and x.remove = {remove}
)
