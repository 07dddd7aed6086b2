-- How many rows the next statement, foreign_key.sql, will find. A reference of which only a part is there joins nothing,
-- so that both kinds are one anti-join, never a search of the parents row by row.
select count(*)
from {stage} s
where ({all_set} or {torn})
  and {lacks_parent}
