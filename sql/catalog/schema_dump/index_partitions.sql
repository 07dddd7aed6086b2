-- Which index of a partition is part of which index of its parent, in Kong's schema ($1).
select
  'class ' || x.indrelid     as item,
  'part of index'            as kind,
  c.relname::text            as table_name,
  p.relname::text            as name,
  format('alter index %s attach partition %s', h.inhparent::regclass, h.inhrelid::regclass) as statement,
  null::text                 as obstacle
from pg_inherits h
join pg_class p on p.oid = h.inhparent and p.relkind = 'I'
join pg_index x on x.indexrelid = h.inhrelid
join pg_class c on c.oid = x.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
order by h.inhrelid
