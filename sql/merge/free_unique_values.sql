-- Frees the unique values of rows that are about to change or to be deleted, so that another row may take them: none of
-- Kong's constraints is deferrable. No other session sees the rows in this state.
update {table_ref} g
set {freed}
where ({own_key}) in (
  select {own_key} from {table_ref} g join {stage} s on {same_key} where ({parts}) is distinct from ({staged_parts})
  union all
  select {own_key} from {table_ref} g join {deletions} d on {is_deleted}
)
