-- The tables of Kong's schema ($1) with their columns. Defaults follow in columns.sql, since they may call functions
-- that take a table's rows; partitions are attached in partitions.sql.
select
  'class ' || c.oid  as item,
  'table'            as kind,
  ''                 as table_name,
  c.relname::text    as name,
  concat(
    'create ', case when c.relpersistence = 'u' then 'unlogged ' end,
    format('table %I.%I (', n.nspname, c.relname),
    (
      select string_agg(
        concat(
          format('%I %s', a.attname, format_type(a.atttypid, a.atttypmod)),
          (
            select format(' collate %I.%I', s.nspname, k.collname)
            from pg_collation k join pg_namespace s on s.oid = k.collnamespace
            where k.oid = a.attcollation and a.attcollation <> t.typcollation),
          case x.generated
            when 's' then format(' generated always as (%s) stored', pg_get_expr(d.adbin, d.adrelid))
            when 'v' then format(' generated always as (%s) virtual', pg_get_expr(d.adbin, d.adrelid))
          end,
          identity_of.clause,
          case when a.attnotnull then ' not null' end),
        ', ' order by a.attnum)
      from pg_attribute a
      cross join lateral (select coalesce(to_jsonb(a) ->> 'attgenerated', '') as generated) x
      join pg_type t on t.oid = a.atttypid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
      -- A partition has the identity of its parent.
      left join lateral (
        select format(
          ' generated %s as identity (sequence name %I.%I increment by %s minvalue %s maxvalue %s start with %s cache %s%s)',
          case a.attidentity when 'a' then 'always' else 'by default' end,
          n.nspname, sequence.relname, q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
          case when q.seqcycle then ' cycle' end) as clause
        from pg_depend own
        join pg_class sequence on sequence.oid = own.objid
        join pg_sequence q on q.seqrelid = sequence.oid
        where a.attidentity <> '' and not c.relispartition
          and own.classid = 'pg_class'::regclass and own.refclassid = 'pg_class'::regclass
          and own.refobjid = c.oid and own.refobjsubid = a.attnum and own.deptype = 'i') identity_of on true
      where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
    ')',
    (
      select format(' inherits (%s)', string_agg(h.inhparent::regclass::text, ', ' order by h.inhseqno))
      from pg_inherits h where h.inhrelid = c.oid and not c.relispartition
      having count(*) > 0),
    case when c.relkind = 'p' then ' partition by ' || pg_get_partkeydef(c.oid) end,
    (
      select format(' with (%s)', string_agg(format('%s%I = %L', o.prefix, o.name, o.value), ', ' order by o.prefix, o.name))
      from (
        select '' as prefix, split_part(p, '=', 1) as name, substr(p, strpos(p, '=') + 1) as value
        from unnest(c.reloptions) as p
        union all
        select 'toast.', split_part(p, '=', 1), substr(p, strpos(p, '=') + 1)
        from pg_class toast, unnest(toast.reloptions) as p
        where toast.oid = c.reltoastrelid
      ) o
      having count(*) > 0)
  )                  as statement,
  null::text         as obstacle
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relkind in ('r', 'p')
  and not exists (
    select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e')
order by c.relname
