-- Rows that a cascade would delete, or that would block a deletion, because they refer to a row that is deleted.
select {key}::text
from {table_ref} g
where ({refers_to_deleted})
  {not_deleted}
limit {limit}
