-- The relations in our own schema ($1) with their size, and whether kongferry created each.
select to_jsonb(t)
from (
  select
    c.relname::text                                  as name,
    pg_total_relation_size(c.oid)                    as bytes,
    c.reltuples::bigint                              as about_rows,
    c.relkind = 'r' and (
      c.relname in ('run', 'reject', 'ledger', 'writer', 'definitions')
      or c.relname like 'ledger\_%'
      or c.relname like 'stage\_%'
    )                                                as is_ours
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1
    and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
    and not exists (
      -- A sequence that belongs to a column is dropped with it.
      select from pg_depend d where d.objid = c.oid and d.deptype in ('a', 'i') and c.relkind = 'S'
    )
  order by c.relname
) t
