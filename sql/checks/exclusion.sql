-- Rows that violate an exclusion constraint of green together with another row. As with duplicates both are rejected,
-- unless a reviewed rejects file keeps one of them.
insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail)
with member as materialized (
  select
    s.ctid as row_id,
    {key} as key,
    exists (
      select from {work}.stage_keep k
      where k.table_name = {table} and k.key = {key}
    ) as kept,
    {named_parts}
  from {stage} s
  where {covered}
)
select
  {table},
  m.row_id,
  {columns},
  'duplicate',
  'green takes no two such rows, and one of the others is ' || min(o.key::text)
from member m
join member o on o.row_id <> m.row_id and {excluded}
group by m.row_id, m.kept
having not m.kept or bool_or(o.kept)
