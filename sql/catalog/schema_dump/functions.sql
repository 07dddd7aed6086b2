-- The functions of Kong's schema ($1), but those that came with an extension or with a type.
select
  'proc ' || p.oid  as item,
  'function'        as kind,
  ''                as table_name,
  format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)) as name,
  case when g.aggfnoid is null then pg_get_functiondef(p.oid) end        as statement,
  case
    when g.aggfnoid is not null then 'is an aggregate'
    when l.lanname in ('c', 'internal') then 'is written in C'
  end               as obstacle
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_language l on l.oid = p.prolang
left join pg_aggregate g on g.aggfnoid = p.oid
where n.nspname = $1
  and not exists (
    select from pg_depend d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype in ('e', 'i'))
order by name
