-- How many rows the next statement, foreign_key.sql, will find. A partial reference joins no
-- parent, so both kinds are one anti-join, never a search of the parents row by row.
select count(*)
from {stage} s
where ({all_set} or {is_partial})
  and {lacks_parent}
