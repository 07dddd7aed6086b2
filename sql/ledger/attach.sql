-- Gives a ledger that was built concurrently, and its key, their final names; from now on autovacuum treats it like any
-- other table.
drop table if exists {ledger};
alter table {building} rename to {ledger_name};
alter table {ledger} rename constraint {building_key} to {ledger_key};
alter table {ledger} reset (autovacuum_enabled);
