-- The rejects of the last run that was applied to this very database: the operator accepted them.
select j.table_name, j.key::text as key, j.reason, j.mark
from {work}.reject j
where j.run_id = (
  select r.run_id
  from {work}.run r
  join pg_database d on d.oid = r.database_oid and d.datname = current_database()
  where r.state = 'applied'
    and r.bootstrap_marker = coalesce(to_regclass(quote_ident($1) || '.schema_meta')::oid::text, '-')
  order by r.started_at desc
  limit 1
)
