-- Only the rows that change are locked, always in the same order.
select count(*) from (
  select 1
  from {table_ref} g
  where exists (select from {stage} s where {same_key})
     or exists (select from {gone} d where {leaving})
  order by {key}
  for update of g
) locked
