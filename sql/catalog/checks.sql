-- Every CHECK constraint of Kong's schema ($1), as an expression over the table's columns.
select
  c.relname::text                       as table_name,
  k.conname::text                       as constraint_name,
  pg_get_expr(k.conbin, k.conrelid)     as expression
from pg_constraint k
join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and k.contype = 'c'
order by c.relname, k.conname
