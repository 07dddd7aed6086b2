-- A new run. The database is identified by its own oid and by that of Kong's schema_meta: after a drop and a new bootstrap,
-- or a restore, one of them differs, and the entry is history only.
insert into {work}.run (
  run_id, state, tool_version, host, process_id, blue_cluster, blue_keyspace, kong_schema, map_digest,
  database_oid, bootstrap_marker
)
select
  $1, 'staging', $2, $3, $4, $5, $6, $7, $8,
  d.oid,
  coalesce(to_regclass(quote_ident($7) || '.schema_meta')::oid::text, '-')
from pg_database d
where d.datname = current_database()
