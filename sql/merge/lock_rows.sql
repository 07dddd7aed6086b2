-- Only the rows that change are locked, always in the same order.
select count(*) from (
  select 1
  from {table_ref} g
  where ({own_key}) in (
    select {own_key} from {table_ref} g join {stage} s on {same_key}
    union all
    select {own_key} from {table_ref} g join {gone} d on {leaving}
  )
  order by {key}
  for update of g
) locked
