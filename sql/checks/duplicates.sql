-- Every member of a group of rows that hold what one unique index of green allows only once (4.6, 4.6b).
-- A member that a reviewed rejects file keeps is not rejected, unless the file keeps two of one group; neither is one
-- that green already holds with this value. Where the index treats nulls as equal, so do the windows; the
-- condition that exempts most rows from sorting cannot.
insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail)
with member as (
  select
    s.ctid as row_id,
    count(*) over same as members,
    {on_green} or exists (
      select from {work}.stage_keep k
      where k.table_name = {table} and k.key = {key}
    ) as kept,
    min({key}::text) over same as first_key,
    max({key}::text) over same as last_key,
    {key}::text as own_key,
    count(*) filter (
      where {on_green} or exists (
        select from {work}.stage_keep k
        where k.table_name = {table} and k.key = {key}
      )
    ) over same as keeps
  from {stage} s
  where {is_repeated}
  and {covered}
  window same as (partition by {parts})
)
select
  {table},
  row_id,
  {columns},
  'duplicate',
  members::text || ' rows with the same value, one of the others: '
    || case when own_key = first_key then last_key else first_key end
from member
where members > 1
  and not (kept and keeps = 1)
