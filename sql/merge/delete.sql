-- Deletes rows from green, counted by reason.
with deleted as (
  delete from {table_ref} g
  using {deletions} d
  where {is_deleted}
  returning d.reason
)
select reason, count(*) from deleted group by reason
