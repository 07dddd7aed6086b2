-- Takes over a ledger that was made aside.
drop table if exists {ledger};
alter table {aside} rename to {own_name};
