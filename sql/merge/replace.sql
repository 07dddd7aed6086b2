-- Rows that none of our runs wrote and that blue lacks are deleted from green: those of its own bootstrap, and with
-- --replace all of them.
insert into {deletions}
select {changed_keys}, 'replaced'
from {local_changes} t
join {table_ref} g on {changed_row}
where t.change = 'made'
  and ({is_replaced})
  and not exists (select from {stage} s where {changed_staged})
