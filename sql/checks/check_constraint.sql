-- Rows for which a CHECK constraint of green does not hold; null counts as holding, as in PostgreSQL.
insert into {work}.stage_bad (table_name, row_id, reason, detail)
select {table}, s.ctid, 'check_failed', {constraint}
from {stage} s
where not coalesce(({expression}), true)
