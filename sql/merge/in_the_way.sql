-- Rows that would vanish, or hold up the run, because they hang on a row that leaves green.
select {key}::text
from {table_ref} g
where ({referring})
  {stays}
limit {limit}
