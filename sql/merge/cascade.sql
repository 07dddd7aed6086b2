-- Rows that green wrote itself and that refer to a row that is deleted: they are deleted with it, as Kong would do.
insert into {deletions}
select {green_keys}, 'cascaded'
from {table_ref} g
where ({refers_to_deleted})
  and not exists (select from {deletions} d where {is_deleted})
  {not_ours}
