-- The views of Kong's schema ($1). They are made last: one may group by a primary key that it takes from a constraint.
select
  'class ' || c.oid  as item,
  'view'             as kind,
  ''                 as table_name,
  c.relname::text    as name,
  concat(
    format('create view %I.%I', n.nspname, c.relname),
    (
      select format(' with (%s)', string_agg(
        format('%I = %L', split_part(p, '=', 1), substr(p, strpos(p, '=') + 1)), ', '))
      from unnest(c.reloptions) as p
      having count(*) > 0),
    ' as ', pg_get_viewdef(c.oid)
  )                  as statement,
  null::text         as obstacle
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relkind = 'v'
  and not exists (
    select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by c.relname
