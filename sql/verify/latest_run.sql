-- The last run that was applied to this very database: after a drop and a new bootstrap, or a restore, its oid or that of
-- Kong's schema_meta differs, and the entry is history only.
select r.run_id::text as run, r.tables
from {work}.run r
join pg_database d on d.oid = r.database_oid and d.datname = current_database()
where r.state = 'applied'
  and r.bootstrap_marker = coalesce(to_regclass(quote_ident(r.kong_schema) || '.schema_meta')::oid::text, '-')
order by r.started_at desc
limit 1
