-- Inserts the rows that green lacks.
insert into {table_ref} ({columns})
overriding system value
select {staged}
from {stage} s
join {selected} k on {staged_is_selected}
where {alive}
  and not exists (select from {table_ref} g where {same_key})
