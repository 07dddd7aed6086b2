-- Rows on green that are neither bootstrap rows nor on blue: not created by the bootstrap, and not identical to a row
-- about to be applied. Compared by value; json columns as text, because json has no equality.
select {key}::text
from {table_ref} g
where not ({bootstrap})
  and not exists (select from {stage} s where {same_row})
limit 6
