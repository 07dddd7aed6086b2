-- Who works here, for the message to the one who comes second.
select format('It runs on %s as process %s since %s (run %s).', host, process_id,
  to_char(started_at, 'YYYY-MM-DD HH24:MI:SS "UTC"'), run_id)
from {work}.run
order by started_at desc
limit 1
