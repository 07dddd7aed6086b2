-- Locks only the rows that change, always in the same order.
select count(*) from (
  select 1
  from {table_ref} g
  where ({own_key}) in (
    select {own_key} from {table_ref} g join {stage} s on {same_key}
    union all
    select {own_key} from {table_ref} g join {deletions} d on {is_deleted}
  )
  order by {key}
  for update of g
) locked
