-- The state ($2) of the run $1, with the counts per table ($3) once they are known.
update {work}.run
set state = $2,
    tables = coalesce($3, tables),
    finished_at = case when $2 in ('staging', 'staged') then null else clock_timestamp() end
where run_id = $1
