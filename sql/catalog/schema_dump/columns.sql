-- Of the columns of Kong's schema ($1): defaults, and how they are stored. One statement per table.
select
  'class ' || c.oid           as item,
  'defaults of the columns'   as kind,
  c.relname::text             as table_name,
  ''                          as name,
  format('alter table only %I.%I %s', n.nspname, c.relname,
    string_agg(format('alter column %I %s', a.attname, change.clause), ', ' order by a.attnum, change.position)) as statement,
  null::text                  as obstacle
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
cross join lateral (select to_jsonb(a) as j) x
cross join lateral (values
  (1, case when coalesce(x.j ->> 'attgenerated', '') = '' then 'set default ' || pg_get_expr(d.adbin, d.adrelid) end),
  (2, case when a.attstorage <> t.typstorage then 'set storage ' ||
      case a.attstorage when 'p' then 'plain' when 'e' then 'external' when 'm' then 'main' else 'extended' end end),
  (3, case x.j ->> 'attcompression' when 'p' then 'set compression pglz' when 'l' then 'set compression lz4' end),
  (4, 'set statistics ' || nullif(x.j ->> 'attstattarget', '-1')),
  (5, (
    select format('set (%s)', string_agg(
      format('%I = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', '))
    from unnest(a.attoptions) as o
    having count(*) > 0))
) as change (position, clause)
where n.nspname = $1
  and c.relkind in ('r', 'p')
  and change.clause is not null
group by c.oid, n.nspname, c.relname

-- A serial column's sequence belongs to it.
union all
select 'class ' || c.oid, 'owner of the sequence', c.relname::text, s.relname::text,
  format('alter sequence %I.%I owned by %I.%I.%I', n.nspname, s.relname, n.nspname, c.relname, a.attname),
  null
from pg_class s
join pg_namespace n on n.oid = s.relnamespace
join pg_depend d on d.classid = 'pg_class'::regclass and d.objid = s.oid and d.refclassid = 'pg_class'::regclass
join pg_class c on c.oid = d.refobjid
join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
where n.nspname = $1
  and s.relkind = 'S'
  and d.deptype = 'a'
order by kind, table_name, name
