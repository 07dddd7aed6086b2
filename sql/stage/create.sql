-- The staging area beside the staging tables of Kong's tables. All of it is unlogged: a crash of PostgreSQL empties it
-- whole, the epoch row included, and a stage without its epoch is never applied.
create unlogged table {work}.stage_epoch (
  run_id uuid not null
);

-- Rejected rows, as JSON text: written to the rejects file, then dropped with the stage.
create unlogged table {work}.stage_reject (
  table_name   text not null,
  key          jsonb not null,
  column_name  text,
  reason       text not null,
  detail       text,
  cause        jsonb,
  row_text     text not null,
  mark         bytea                         -- the digest of its values, where it could be converted
);

-- Rows that the checks have found but not yet moved to stage_reject.
create unlogged table {work}.stage_bad (
  found        bigserial,
  table_name   text not null,
  row_id       tid not null,
  column_name  text,
  reason       text not null,
  detail       text,
  cause        jsonb
);

-- Values that were repaired during conversion.
create unlogged table {work}.stage_repair (
  table_name   text not null,
  key          jsonb not null,
  column_name  text not null,
  repair       text not null
);

-- Members of groups of duplicates that a reviewed rejects file keeps.
create unlogged table {work}.stage_keep (
  table_name   text not null,
  key          jsonb not null
);

insert into {work}.stage_epoch values ('{run_id}');

-- Finds the cause of a child's rejection; hash, because a key may be longer than a btree takes.
create index on {work}.stage_reject using hash (key);
