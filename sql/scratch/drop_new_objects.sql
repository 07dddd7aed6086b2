-- The statements that drop what a rehearsal created in the scratch database, in order; $1 are the objects that existed
-- before. Each drops dependent objects too, so a later one may have nothing to drop.
with objects as (
  select 1 as position, n.oid, format('drop schema if exists %I cascade', n.nspname) as statement
  from pg_namespace n
  where n.nspname !~ '^pg_'
  union all
  select 2, e.oid, format('drop extension if exists %I cascade', e.extname)
  from pg_extension e
  union all
  select
    case c.relkind when 'S' then 4 else 3 end,
    c.oid,
    format(
      'drop %s if exists %I.%I cascade',
      case c.relkind
        when 'v' then 'view' when 'm' then 'materialized view' when 'S' then 'sequence' when 'f' then 'foreign table'
        when 'c' then 'type' else 'table'
      end,
      n.nspname, c.relname
    )
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f', 'c')
    and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select 5, p.oid, format('drop routine if exists %s cascade', p.oid::regprocedure)
  from pg_proc p
  join pg_namespace n on n.oid = p.pronamespace
  where n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  union all
  select 6, t.oid, format('drop type if exists %I.%I cascade', n.nspname, t.typname)
  from pg_type t
  join pg_namespace n on n.oid = t.typnamespace
  where t.typtype in ('e', 'd', 'r', 'b') and t.typelem = 0
    and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
)
select statement
from objects
where oid::bigint <> all ($1)
order by position, oid
