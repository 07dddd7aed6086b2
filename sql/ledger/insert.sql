-- Inserts what this run wrote, or found on green as it would have written it, in one set.
insert into {ledger} ({keys}, digest, expiry)
select {staged_keys}, s.kongferry_digest, {expiry}
from {stage} s{joined}
where {alive}
