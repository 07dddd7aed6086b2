-- Rows that no run of ours wrote and that blue has not leave green: those of its own bootstrap, and by --replace all.
insert into {gone}
select {touched_keys}, 'replaced'
from {touched} t
join {table_ref} g on {touched_row}
where t.touch = 'made'
  and ({leaves})
  and not exists (select from {stage} s where {touched_staged})
