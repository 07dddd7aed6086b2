-- Rows that differ take every value of blue's.
update {table_ref} g
set {assigned}
from {stage} s, {selected} k
where {same_key} and {s_is_k} and {alive}
