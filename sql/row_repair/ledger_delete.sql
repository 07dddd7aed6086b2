-- Deletes the deleted rows from the ledger.
delete from {ledger} l
using {selected} k
where {ledger_is_selected}
  and not exists (select from {table_ref} g where {ledger_is_green});
