-- What applying one table would do.
select
  (select count(*) from {stage} s where {alive} and not exists (select from {table_ref} g where {same_key})),
  (select count(*) from {stage} s join {table_ref} g on {same_key} where {alive} and not ({same_row}) {ours}),
  (select count(*) from {gone} d join {table_ref} g on {leaving} where d.why <> 'expired'),
  (select count(*) from {stage} s) + (select count(*) from {gone} d)
