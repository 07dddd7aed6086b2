-- How many rows Kong sees in a table, how many of them were last written by a transaction that is not one of our runs,
-- and how many the ledger has. Every change of a row leaves the number of its transaction on the row (xmin), and no
-- client can remove it.
select rows, others, (select count(*) from {ledger} l where {ledger_alive})
from (
  select count(*) as rows, count(*) filter (where not ({ours})) as others
  from {table_ref} g
  where {alive}
) seen
