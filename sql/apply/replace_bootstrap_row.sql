-- A row that green's own bootstrap made is replaced by blue's row of the same meaning. Where both have the same key
-- (parameters) it takes blue's values; otherwise (the default workspace) it is deleted, and blue's is inserted later.
-- Where blue has no such row, green's stays.
update {table_ref} g
set ({columns}) = (select {staged} from {stage} s where {same_key})
where g.{column}::text = {value}
  and exists (select from {stage} s where {same_key});

delete from {table_ref} g
where g.{column}::text = {value}
  and not exists (select from {stage} s where {same_key})
  and exists (select from {stage} s where s.{column}::text = {value});
