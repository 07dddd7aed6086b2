-- The indexes of the tables of Kong's schema ($1) that no constraint brings. A broken one (its CREATE INDEX CONCURRENTLY
-- failed) cannot be made again as it is; one of a partitioned table may be invalid for want of its parts only.
select
  'class ' || c.oid          as item,
  'index'                    as kind,
  c.relname::text            as table_name,
  i.relname::text            as name,
  pg_get_indexdef(i.oid)     as statement,
  null::text                 as obstacle
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_class c on c.oid = x.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relkind in ('r', 'p')
  and (x.indisvalid or i.relkind = 'I')
  and not exists (select from pg_constraint k where k.conindid = i.oid and k.contype in ('p', 'u', 'x'))
order by c.relname, i.relname
