-- One table: every staged row that green lacks; every staged row where the table is empty. A row that expired since the
-- checks is not inserted. An identity column of a plugin's own table takes blue's number, not the next one.
insert into {table_ref} ({columns})
overriding system value
select {staged}
from {stage} s
where {alive}
  {is_new}
{on_conflict}
