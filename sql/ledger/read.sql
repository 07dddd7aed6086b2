-- The ledgers that describe the current tables of Kong's schema ($1) in this very database ($2). A table that was dropped
-- and created again has another oid, and so has a restored database: their ledgers are history only.
select l.table_name, l.key_columns
from {work}.ledger l
join pg_class c on c.oid = l.table_oid and c.relname = l.table_name
join pg_namespace n on n.oid = c.relnamespace and n.nspname = $1
where l.database_id = $2
