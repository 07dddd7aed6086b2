-- The extensions of the database, with the statement that makes each on another server, and the one that does so only if
-- it is available there; and whether a function of Kong's schema ($1) seems to call one of theirs, since PostgreSQL does
-- not track what a function's body names.
select
  e.extname::text   as name,
  made.statement    as statement,
  format(
    'do $do$ begin if exists (select from pg_available_extensions where name = %L) then %s; end if; end $do$',
    e.extname, made.statement
  )                 as statement_if_available,
  exists (
    select
    from pg_depend d
    join pg_proc theirs on theirs.oid = d.objid
    join pg_proc ours on strpos(ours.prosrc, theirs.proname) > 0
    join pg_namespace n on n.oid = ours.pronamespace and n.nspname = $1
    join pg_language l on l.oid = ours.prolang and l.lanname not in ('c', 'internal')
    where d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_extension'::regclass
      and d.refobjid = e.oid and d.deptype = 'e'
  )                 as is_mentioned
from pg_extension e
join pg_namespace s on s.oid = e.extnamespace
cross join lateral (
  select format('%screate extension if not exists %I with schema %I cascade',
    case when s.nspname <> 'pg_catalog' then format('create schema if not exists %I; ', s.nspname) end,
    e.extname, s.nspname) as statement
) made
order by e.oid
