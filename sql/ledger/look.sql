-- How many rows Kong sees in a table, how many of them were last written by somebody else than our runs, and how many
-- our ledger knows. Whoever changes a row leaves his transaction's number on it (xmin); nobody can take it off.
select rows, others, (select count(*) from {ledger} l where {known_alive})
from (
  select count(*) as rows, count(*) filter (where not ({ours})) as others
  from {table_ref} g
  where {alive}
) seen
