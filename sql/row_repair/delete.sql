-- Deletes the rows that blue lacks.
delete from {table_ref} g
using {selected} k
where {green_is_selected}
  and not exists (select from {stage} s where {same_key})
