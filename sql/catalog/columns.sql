-- Every column of every ordinary table in Kong's schema ($1), in the order of the table.
-- Generated columns have their expression as the default.
select
  c.oid::bigint                                  as table_oid,
  c.relname::text                                as table_name,
  a.attname::text                                as column_name,
  format_type(a.atttypid, a.atttypmod)           as column_type,
  coalesce(nullif(t.typelem, 0), 0)::bigint      as element_oid,
  a.attnotnull                                   as not_null,
  a.attgenerated <> ''                           as generated,
  pg_get_expr(d.adbin, d.adrelid)                as default_expression
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where n.nspname = $1
  and c.relkind in ('r', 'p')
  and not c.relispartition
order by c.relname, a.attnum
