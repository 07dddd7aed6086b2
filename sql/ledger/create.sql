-- The ledger of one table: the key of each row that a run wrote, the digest of what was written, and its expiry. It
-- replaces one that describes another table or another key.
drop table if exists {ledger};

create table {ledger} as
select {keys}, null::bytea as digest, {expiry} as expiry
from {table_ref} g
with no data;

alter table {ledger} alter column digest set not null;
