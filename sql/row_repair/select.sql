-- Keys of the table $1: objects, and as they are shown, side by side.
insert into {work}.stage_selected (table_name, key, shown, remove)
select $1, k.key, k.shown, $4
from unnest($2::jsonb[], $3::jsonb[]) as k(key, shown)
