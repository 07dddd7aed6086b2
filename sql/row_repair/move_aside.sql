-- Clears the unique values and references of rows about to be written, so that two rows can exchange values, and a parent
-- and its child can move to another workspace together. The next statement gives every column its value.
update {table_ref} g
set {cleared}
from {stage} s, {selected} k
where {same_key} and {staged_is_selected} and {alive}
