-- The columns of one table ($2) of Kong's schema ($1) that can be written, and whether all of them may travel in
-- PostgreSQL's binary format. Not so where it holds object ids, which mean something else on another server (arrays and
-- composites of a user's types, regclass and its kin), nor where a type has no binary form.
select
  string_agg(quote_ident(a.attname), ', ' order by a.attnum)  as columns,
  bool_and(
    t.typtype = 'e'
    or coalesce(base.oid, t.oid) < 10000
      and coalesce(base.typsend, t.typsend) <> 0
      and coalesce(base.typname, t.typname) !~ '^_?reg'
  )                                                           as is_binary_safe,
  c.relkind = 'p'                                             as is_partitioned
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  and coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
left join pg_type t on t.oid = a.atttypid
left join pg_type base on base.oid = t.typbasetype
where n.nspname = $1
  and c.relname = $2
  and c.relkind in ('r', 'p')
group by c.oid, c.relkind
