-- What somebody did to one table on green and blue does not explain: rows that are neither as we wrote them nor as blue
-- has them now, and rows that are gone although blue still has them. A row that the bootstrap made is nobody's doing; one
-- that we wrote in its place is ours.
select touch, key, rows
from (
  select b.*, row_number() over (partition by touch order by key) as place
  from (
    select t.touch, {key}::text as key, count(*) over (partition by t.touch) as rows
    from {touched} t
    join {table_ref} g on {touched_row}
    where t.touch in ('made', 'edited')
      and (t.touch = 'edited' or not ({bootstrap}))
      and not exists (select from {stage} s where {same_row})
    union all
    select t.touch, {staged_key}::text, count(*) over ()
    from {touched} t
    join {stage} s on {touched_staged}
    where t.touch = 'removed'
  ) b
) numbered
where place <= {limit}
order by touch, key
