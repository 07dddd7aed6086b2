-- Rows that are as we wrote them but hang on a row that leaves green: blue has orphaned them. They are staged as they
-- stand, so that the checks name them.
insert into {stage} ({columns}, kongferry_digest)
select {present}, l.digest
from {table_ref} g
join {ledger} l on {known}
where ({referring})
  and not exists (select from {stage} s where {same_key})
  and not exists (select from {gone} d where {leaving})
