-- The sequences of Kong's schema ($1), but those of identity columns, which come with the column.
select
  'class ' || c.oid  as item,
  'sequence'         as kind,
  ''                 as table_name,
  c.relname::text    as name,
  format(
    'create sequence %I.%I%s increment by %s minvalue %s maxvalue %s start with %s cache %s%s',
    n.nspname, c.relname,
    -- Anything but the type that a sequence has anyway: only that is understood by every version.
    case when q.seqtypid <> 'bigint'::regtype then format(' as %s', format_type(q.seqtypid, null)) end,
    q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache,
    case when q.seqcycle then ' cycle' end
  )                  as statement,
  null::text         as obstacle
from pg_sequence q
join pg_class c on c.oid = q.seqrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and not exists (
    select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('i', 'e'))
order by c.relname
