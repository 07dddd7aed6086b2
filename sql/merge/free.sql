-- Unique values of rows that are about to change or to leave are freed, so that another row may take them: none of
-- Kong's constraints can wait until the end. Nobody else sees the rows like this.
update {table_ref} g
set {freed}
where ({own_key}) in (
  select {own_key} from {table_ref} g join {stage} s on {same_key} where ({parts}) is distinct from ({staged_parts})
  union all
  select {own_key} from {table_ref} g join {gone} d on {leaving}
)
