-- Rows that green wrote itself and that hang on a row that leaves: they go with it, as Kong would have it.
insert into {gone}
select {present_keys}, 'cascaded'
from {table_ref} g
where ({referring})
  and not exists (select from {gone} d where {leaving})
  {not_ours}
