-- Takes over a ledger that was made aside, and its key; from now on it is tidied like any other table.
drop table if exists {ledger};
alter table {aside} rename to {own_name};
alter table {ledger} rename constraint {aside_key} to {own_key};
alter table {ledger} reset (autovacuum_enabled);
