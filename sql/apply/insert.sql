-- One table: every staged row that green does not hold yet. A row whose time ran out since the checks stays behind.
insert into {table_ref} ({columns})
select {staged}
from {stage} s
where {alive}
  and not exists (select from {table_ref} g where {same_key})
{on_conflict}
