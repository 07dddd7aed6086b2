-- Keys of rows that our runs wrote and that green lacks, although they have not expired.
select {keys}
from {ledger} l
where {ledger_alive}
  and not exists (select from {table_ref} g where {same_key} and {alive})
