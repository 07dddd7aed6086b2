-- The latest run, for the message of a second process that is refused.
select format('It runs on %s as process %s since %s (run %s).', host, process_id,
  to_char(started_at, 'YYYY-MM-DD HH24:MI:SS "UTC"'), run_id)
from {work}.run
order by started_at desc
limit 1
