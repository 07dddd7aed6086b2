-- The last run that was applied to this very database.
select r.run_id::text as run, r.tables
from {work}.run r
join pg_database d on d.oid = r.database_oid and d.datname = current_database()
where r.state = 'applied'
order by r.started_at desc
limit 1
