-- Rows that another session wrote, or that are missing from the ledger: every column, the digest of what our runs wrote
-- (null where they wrote none), and whether the expiry differs.
select {columns}, l.digest, {expiry_differs} as expiry_differs
from {table_ref} g
left join {ledger} l on {same_key}
where {alive}
  and (l.digest is null or not ({ours}))
