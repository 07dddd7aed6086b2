-- The ledger of a first load, made beside the applying transaction, which takes it over as its own: whatever is staged
-- and has time left is about to stand on green. Named like a stage, it is removed like one if nothing comes of it.
drop table if exists {aside};

-- Autovacuum would only be in the way of the renaming.
create table {aside} with (autovacuum_enabled = false) as
select {keys}, s.kongferry_digest as digest, {expiry} as expiry
from {stage} s
where {alive};

alter table {aside} alter column digest set not null;
alter table {aside} add constraint {aside_key} primary key ({key_columns});
