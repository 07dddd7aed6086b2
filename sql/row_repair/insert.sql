-- Rows that are missing.
insert into {table_ref} ({columns})
overriding system value
select {staged}
from {stage} s
join {selected} k on {s_is_k}
where {alive}
  and not exists (select from {table_ref} g where {same_key})
