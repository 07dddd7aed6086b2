-- Every definition of Kong's schema at the end of the run $1, so that verify can name what was changed afterwards.
insert into {work}.definitions (run_id, digest, definitions)
values ($1, $2, $3)
