-- The rows whose value occurs in more than one row; nulls are never equal here.
({parts}) in (
  select {parts}
  from {stage}
  where {covered}
  group by {parts}
  having count(*) > 1
)
