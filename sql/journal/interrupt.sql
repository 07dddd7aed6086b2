-- The run $1 was interrupted: unless it was applied, or its repair was, its state becomes failed. Waits while its commit is
-- under way, and returns the state.
update {work}.run r
set state = case when r.state in ('applied', 'repaired') then r.state else 'failed' end,
    finished_at = coalesce(r.finished_at, clock_timestamp())
where r.run_id = $1
returning r.state
