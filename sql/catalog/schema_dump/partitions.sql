-- The partitions of the tables of Kong's schema ($1), each attached after it was made like any table.
select
  'class ' || c.oid  as item,
  'partition'        as kind,
  p.relname::text    as table_name,
  c.relname::text    as name,
  format('alter table only %s attach partition %I.%I %s',
    h.inhparent::regclass, n.nspname, c.relname, pg_get_expr(c.relpartbound, c.oid)) as statement,
  null::text         as obstacle
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_inherits h on h.inhrelid = c.oid
join pg_class p on p.oid = h.inhparent
where n.nspname = $1
  and c.relispartition
  and c.relkind in ('r', 'p')
order by c.oid
