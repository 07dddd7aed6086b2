-- Unexpired rows of a table written by traffic for which green, in use, holds another row with the same unique value.
select count(*)
from {stage} s
where {alive}
  and not exists (select from {table_ref} g where {same_key})
