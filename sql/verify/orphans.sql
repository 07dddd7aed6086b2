-- Rows of a table whose parent does not exist: Kong's constraints do not find those that were written while the constraints
-- were disabled.
select {key} as key
from {table} c
where {all_set}
  and {scope}
  and not exists (select from {parent} p where {joined})
