-- What applying one table would do.
select
  (select count(*) from {stage} s where {alive} and not exists (select from {table_ref} g where {same_key})),
  (select count(*) from {stage} s join {table_ref} g on {same_key} where {alive} and not ({same_row}) {ours}),
  (select count(*) from {deletions} d join {table_ref} g on {is_deleted} where d.reason <> 'expired'),
  (select count(*) from {stage} s) + (select count(*) from {deletions} d)
