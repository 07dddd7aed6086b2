-- Rows that differ from blue. An expiry that is the same within two seconds is kept.
update {table_ref} g
set {assignments}
from {stage} s
where {same_key}
  and {alive}
  and not ({same_row})
  {ours}
