-- Rows of a table whose reference leads nowhere: Kong's constraints do not find those that were written while they
-- were switched off.
select {key} as key
from {table} c
where {all_set}
  and {scope}
  and not exists (select from {parent} p where {joined})
