-- Rows that were made by hand leave green by --replace.
insert into {gone}
select {touched_keys}, 'replaced'
from {touched} t
join {table_ref} g on {touched_row}
where t.touch = 'made'
  and not ({bootstrap})
  and not exists (select from {stage} s where {touched_staged})
