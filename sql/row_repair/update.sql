-- Gives rows that differ every value of blue's.
update {table_ref} g
set {assigned}
from {stage} s, {selected} k
where {same_key} and {staged_is_selected} and {alive}
