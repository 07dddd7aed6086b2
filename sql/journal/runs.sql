-- Every run in the journal, the latest first, and whether it applies to the current schema of Kong ($1) in this very
-- database, or is history only. A run that has neither ended nor is running (it would hold the guard ($3), and be the
-- latest) was cut off.
select to_jsonb(t)
from (
  select
    r.run_id::text                                           as run,
    case
      when r.state not in ('staging', 'staged') then r.state
      when r.started_at = max(r.started_at) over () and exists (
        select from pg_locks g
        where g.locktype = 'advisory'
          and g.granted
          and g.database = (select oid from pg_database where datname = current_database())
          and (g.classid::bigint << 32 | g.objid::bigint) = hashtextextended($3, 0)
      ) then r.state
      else 'cut off'
    end                                                      as state,
    to_char(r.started_at, 'YYYY-MM-DD HH24:MI:SS')           as started,
    extract(epoch from coalesce(r.finished_at, clock_timestamp()) - r.started_at)::float8 as seconds,
    r.tool_version                                           as kongferry,
    r.host,
    r.process_id,
    r.blue_cluster,
    r.blue_keyspace,
    r.map_digest,
    r.tables,
    r.seconds                                                as phases,
    (select count(*) from {work}.reject j where j.run_id = r.run_id) as rejects,
    d.oid is not null
      and r.bootstrap_marker = coalesce(to_regclass(quote_ident($1) || '.schema_meta')::oid::text, '-') as is_current
  from {work}.run r
  left join pg_database d on d.oid = r.database_oid and d.datname = current_database()
  order by r.started_at desc
  limit $2
) t
