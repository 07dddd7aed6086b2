-- How many runs wrote the current tables of Kong ($1) in this very database, and when the last of them ended. A run that
-- found no differences wrote nothing.
select
  count(distinct r.run_id),
  coalesce(to_char(max(coalesce(r.finished_at, r.started_at)), 'YYYY-MM-DD HH24:MI:SS "UTC"'), '-')
from {work}.run r
join {work}.writer w on w.run_id = r.run_id
join pg_database d on d.oid = r.database_oid and d.datname = current_database()
where r.state in ('applied', 'repaired')
  and r.bootstrap_marker = coalesce(to_regclass(quote_ident($1) || '.schema_meta')::oid::text, '-')
