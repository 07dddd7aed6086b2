-- Unique values of rows that are about to change or to leave are freed, so that another row may take them: none of
-- Kong's constraints can wait until the end. Nobody else sees the rows like this.
update {table_ref} g
set {freed}
where exists (select from {stage} s where {same_key} and ({parts}) is distinct from ({staged_parts}))
   or exists (select from {gone} d where {leaving})
