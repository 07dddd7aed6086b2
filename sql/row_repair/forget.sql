-- Removed rows leave the ledger.
delete from {ledger} l
using {selected} k
where {l_is_k}
  and not exists (select from {table_ref} g where {l_is_g});
