-- Inserts the written rows into the ledger, as a run would have done.
delete from {ledger} l
using {selected} k
where {ledger_is_selected};

insert into {ledger} ({keys}, digest, expiry)
select {staged_keys}, s.kongferry_digest, {expiry}
from {stage} s
join {selected} k on {staged_is_selected}
where {alive};
