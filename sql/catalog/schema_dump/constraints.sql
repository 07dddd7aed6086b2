-- Primary keys, unique, exclusion and check constraints of the tables of Kong's schema ($1).
-- A partitioned table's key is made of its partitions' keys, see index_partitions.sql; a check constraint is made on the
-- topmost table and goes down from there.
select
  'class ' || c.oid  as item,
  'constraint'       as kind,
  c.relname::text    as table_name,
  k.conname::text    as name,
  format('alter table %s%I.%I add constraint %I %s',
    case when c.relkind = 'p' and k.contype <> 'c' then 'only ' end,
    n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) as statement,
  null::text         as obstacle
from pg_constraint k
join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and (k.contype in ('p', 'u', 'x') or k.contype = 'c' and k.coninhcount = 0)

-- Of domains, those that hold for new values only: rows that are already there need not obey.
union all
select 'type ' || k.contypid, 'constraint', '', k.conname::text,
  format('alter domain %s add constraint %I %s', k.contypid::regtype, k.conname, pg_get_constraintdef(k.oid)),
  null
from pg_constraint k
join pg_namespace n on n.oid = k.connamespace
where n.nspname = $1
  and k.contypid <> 0
  and k.contype = 'c'
  and not k.convalidated
order by table_name, name
