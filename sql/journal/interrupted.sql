-- The run $1 was cut off: unless it was applied, or its repair was, it counts as failed. Waits where it is just being committed, and says
-- how it stands now.
update {work}.run r
set state = case when r.state in ('applied', 'repaired') then r.state else 'failed' end,
    finished_at = coalesce(r.finished_at, clock_timestamp())
where r.run_id = $1
returning r.state
