-- The rows of a repair, by key: those to write as blue has them, and those to delete.
create unlogged table {work}.stage_selected (
  table_name  text not null,
  key         jsonb not null,    -- an object with a member for each column of the primary key
  shown       jsonb not null,    -- the key as findings and rejects contain it
  remove      boolean not null
)
