-- Rows that somebody else wrote, or that we did not enter into the ledger: every column, the digest of what we wrote
-- (null where it was not us), and whether the expiry is another one.
select {columns}, l.digest, {expiry_differs} as expiry_differs
from {table_ref} g
left join {ledger} l on {same_key}
where {alive}
  and (l.digest is null or not ({ours}))
