-- One table: every staged row that green does not hold yet; of a table that holds nothing, every one. A row whose time ran
-- out since the checks stays behind. An identity column of a plugin's own table takes blue's number, not the next one.
insert into {table_ref} ({columns})
overriding system value
select {staged}
from {stage} s
where {alive}
  {is_new}
{on_conflict}
