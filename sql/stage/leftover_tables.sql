-- Staging tables that an interrupted run left in our own schema ($1).
select c.relname::text
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relkind = 'r'
  and c.relname like 'stage\_%'
order by c.relname
