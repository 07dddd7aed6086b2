-- Local changes of one table that blue does not explain: rows that are neither as our runs wrote them nor as blue has them
-- now, and rows that are missing although blue has them. A row that the bootstrap made is no manual change; one that our
-- runs wrote in its place is theirs.
select change, key, rows
from (
  select c.*, row_number() over (partition by change order by key) as position
  from (
    select t.change, {key}::text as key, count(*) over (partition by t.change) as rows
    from {local_changes} t
    join {table_ref} g on {changed_row}
    where t.change in ('made', 'edited')
      and (t.change = 'edited' or not ({bootstrap}))
      and not exists (select from {stage} s where {same_row})
    union all
    select t.change, {staged_key}::text, count(*) over ()
    from {local_changes} t
    join {stage} s on {changed_staged}
    where t.change = 'removed'
  ) c
) numbered
where position <= {limit}
order by change, key
