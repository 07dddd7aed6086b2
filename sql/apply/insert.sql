-- One table: every staged row that green does not hold yet. A row whose time ran out since the checks stays behind.
-- An identity column of a plugin's own table takes blue's number, not the next one.
insert into {table_ref} ({columns})
overriding system value
select {staged}
from {stage} s
where {alive}
  and not exists (select from {table_ref} g where {same_key})
{on_conflict}
