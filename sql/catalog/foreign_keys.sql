-- Every foreign key of Kong's schema ($1), with its columns in the order of the key.
select
  c.relname::text  as table_name,
  k.conname::text  as constraint_name,
  p.relname::text  as parent_table,
  k.confmatchtype = 'f' as match_full,
  array(
    select a.attname::text
    from unnest(k.conkey) with ordinality as key(attnum, position)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = key.attnum
    order by key.position
  )                as columns,
  array(
    select a.attname::text
    from unnest(k.confkey) with ordinality as key(attnum, position)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = key.attnum
    order by key.position
  )                as parent_columns
from pg_constraint k
join pg_class c on c.oid = k.conrelid
join pg_class p on p.oid = k.confrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and k.contype = 'f'
  and k.conparentid = 0
order by c.relname, k.conname
