-- The last run of this process ($1): unless it was applied, it counts as failed. Says how it stands now.
update {work}.run r
set state = case when r.state = 'applied' then r.state else 'failed' end,
    finished_at = coalesce(r.finished_at, clock_timestamp())
where r.run_id = (select run_id from {work}.run where process_id = $1 order by started_at desc limit 1)
returning r.state
