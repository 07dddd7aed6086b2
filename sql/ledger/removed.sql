-- Keys of rows that we wrote and that are gone, although their time has not run out.
select {keys}
from {ledger} l
where {known_alive}
  and not exists (select from {table_ref} g where {same_key} and {alive})
