-- Rows whose reference green would refuse, or whose parent was rejected (4.1, 4.2, 4.3).
-- No reference is ever set to null: a plugin without its consumer would be a global plugin.
insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail, cause)
select
  {table},
  s.ctid,
  {columns},
  case
    when {cause} is not null then 'parent_rejected'
    when {to_workspace} then 'workspace_unknown'
    when {elsewhere} then 'cross_workspace_reference'
    else 'dangling_reference'
  end,
  {constraint},
  {cause}
from {stage} s
where ({all_set} or {is_partial})
  and {lacks_parent}
