-- Rows about to be written let go of what only one row may hold and of what they refer to, so that two rows can
-- exchange values, and a parent and its child can go to another workspace together. The next statement about them gives
-- every column its value.
update {table_ref} g
set {parked}
from {stage} s, {selected} k
where {same_key} and {s_is_k} and {alive}
