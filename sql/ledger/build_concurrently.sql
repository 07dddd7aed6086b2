-- The ledger of a first load, built beside the applying transaction, which attaches it: every staged row that has not
-- expired is about to be on green. It is named like a staging table, so that it is dropped like one if the load fails.
drop table if exists {building};

-- Autovacuum would delay the renaming.
create table {building} with (autovacuum_enabled = false) as
select {keys}, s.kongferry_digest as digest, {expiry} as expiry
from {stage} s
where {alive};

alter table {building} alter column digest set not null;
alter table {building} add constraint {building_key} primary key ({key_columns});
