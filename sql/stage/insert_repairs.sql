-- Values repaired while reading one page: arrays of keys, columns and repairs.
insert into {repairs} (table_name, key, column_name, repair)
select {table}, r.key::jsonb, r.column_name, r.repair
from unnest($1::text[], $2::text[], $3::text[]) as r(key, column_name, repair)
