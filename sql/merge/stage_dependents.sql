-- Rows that are as our runs wrote them but refer to a row that is deleted from green: they are orphans on blue. They are
-- staged unchanged, so that the checks reject and name them.
insert into {stage} ({columns}, kongferry_digest)
select {green_columns}, l.digest
from {table_ref} g
join {ledger} l on {in_ledger}
where ({refers_to_deleted})
  and not exists (select from {stage} s where {same_key})
  and not exists (select from {deletions} d where {is_deleted})
