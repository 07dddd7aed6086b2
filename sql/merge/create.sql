-- For one of Kong's tables: the keys of rows that this run deletes from green, and why; and the keys of rows that were
-- changed locally on green.
create unlogged table {deletions} as
select {keys}, null::text as reason
from {table_ref} g
with no data;

create unlogged table {local_changes} as
select {keys}, null::text as change
from {table_ref} g
with no data;
