-- Written rows in the ledger, as a run would have entered them.
delete from {ledger} l
using {selected} k
where {l_is_k};

insert into {ledger} ({keys}, digest, expiry)
select {staged_keys}, s.kongferry_digest, {expiry}
from {stage} s
join {selected} k on {s_is_k}
where {alive};
