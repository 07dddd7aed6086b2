-- Rows that blue lacks.
delete from {table_ref} g
using {selected} k
where {g_is_k}
  and not exists (select from {stage} s where {same_key})
