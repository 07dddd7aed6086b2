-- The definitions of Kong's schema at the end of the run $1: its own record or, where it had nothing to write, that of the
-- last run before it in the same database.
select d.definitions
from {work}.run own
join {work}.run r on r.state = 'applied'
  and r.started_at <= own.started_at
  and r.database_oid = own.database_oid
  and r.bootstrap_marker = own.bootstrap_marker
join {work}.definitions d on d.run_id = r.run_id
where own.run_id = $1::uuid
order by r.started_at desc
limit 1
