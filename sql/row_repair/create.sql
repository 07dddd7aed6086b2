-- The rows that a repair is about, by key: those to write as blue has them, and those to remove.
create unlogged table {work}.stage_selected (
  table_name  text not null,
  key         jsonb not null,    -- an object, a member for each column of the primary key
  shown       jsonb not null,    -- the key as findings and rejects show it
  remove      boolean not null
)
