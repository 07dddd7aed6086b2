-- Every index of Kong's schema ($1): the columns it covers, as expressions, and what it forbids.
-- "nulls_distinct" is read from the definition's text because the catalog column is only there since PostgreSQL 15.
select
  c.relname::text                                 as table_name,
  i.relname::text                                 as index_name,
  x.indisunique                                   as is_unique,
  x.indisprimary                                  as is_primary,
  not pg_get_indexdef(x.indexrelid) like '%NULLS NOT DISTINCT%' as nulls_distinct,
  pg_get_expr(x.indpred, x.indrelid)              as predicate,
  substr(
    pg_get_indexdef(x.indexrelid),
    1 + strpos(pg_get_indexdef(x.indexrelid), format(' USING %I (', m.amname))
  )                                               as definition,
  array(
    select pg_get_indexdef(x.indexrelid, k, true)
    from generate_series(1, x.indnkeyatts) as k
    order by k
  )                                               as expressions,
  array(
    select a.attname::text
    from unnest(string_to_array(x.indkey::text, ' ')::int2[]) with ordinality as key(attnum, position)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = key.attnum
    where key.position <= x.indnkeyatts
    order by key.position
  )                                               as columns,
  array(
    select a.attname::text
    from unnest(string_to_array(x.indkey::text, ' ')::int2[]) with ordinality as key(attnum, position)
    join pg_attribute a on a.attrelid = c.oid and a.attnum = key.attnum
    where key.position > x.indnkeyatts
    order by key.position
  )                                               as included,
  -- Columns within an expression are known by what the index depends on, which its predicate's columns are part of.
  array(
    select a.attname::text
    from pg_attribute a
    left join unnest(string_to_array(x.indkey::text, ' ')::int2[]) with ordinality as key(attnum, position)
      on key.attnum = a.attnum
    where a.attrelid = c.oid
      and (key.position is not null or (x.indexprs is not null and exists (
        select from pg_depend d
        where d.classid = 'pg_class'::regclass and d.objid = i.oid
          and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum
      )))
    order by key.position nulls last, a.attnum
  )                                               as named,
  array(
    select format('operator(%I.%s)', n.nspname, o.oprname)
    from pg_constraint k
    cross join unnest(k.conexclop) with ordinality as e(operator, position)
    join pg_operator o on o.oid = e.operator
    join pg_namespace n on n.oid = o.oprnamespace
    where k.conindid = x.indexrelid and x.indisexclusion
    order by e.position
  )                                               as exclusion
from pg_index x
join pg_class i on i.oid = x.indexrelid
join pg_am m on m.oid = i.relam
join pg_class c on c.oid = x.indrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relkind in ('r', 'p')
order by c.relname, i.relname
