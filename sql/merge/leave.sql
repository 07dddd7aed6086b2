-- Rows that leave green, counted by why.
with left_green as (
  delete from {table_ref} g
  using {gone} d
  where {leaving}
  returning d.why
)
select why, count(*) from left_green group by why
