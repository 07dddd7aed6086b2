-- For one of Kong's tables: keys of rows that leave green in this run, and why; and keys of rows that somebody touched.
create unlogged table {gone} as
select {keys}, null::text as why
from {table_ref} g
with no data;

create unlogged table {touched} as
select {keys}, null::text as touch
from {table_ref} g
with no data;
