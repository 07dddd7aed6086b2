-- What the journal keeps of the rejects of run $1 once the stage is dropped: never the row itself.
insert into {work}.reject (run_id, table_name, key, column_name, reason, cause, row_digest, mark)
select $1, table_name, key, column_name, reason, cause, encode(sha256(convert_to(row_text, 'UTF8')), 'hex'), mark
from {work}.stage_reject
