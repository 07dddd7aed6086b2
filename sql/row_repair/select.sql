-- Keys of the table $1: as objects, and as findings contain them.
insert into {work}.stage_selected (table_name, key, shown, remove)
select $1, k.key, k.shown, $4
from unnest($2::jsonb[], $3::jsonb[]) as k(key, shown)
