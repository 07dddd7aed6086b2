-- Rows that blue has otherwise now. An expiry that is the same within two seconds stays as it is.
update {table_ref} g
set {assignments}
from {stage} s
where {same_key}
  and {alive}
  and not ({same_row})
  {ours}
