-- The journal: one row per run of migrate, and the rows that each run rejected. It is kept when the staging tables are
-- dropped. It contains no rows of Kong's tables: of a reject only its key and a digest.
create table if not exists {work}.run (
  run_id            uuid primary key,
  started_at        timestamptz not null default clock_timestamp(),
  finished_at       timestamptz,
  state             text not null,           -- staging, staged, applied, repaired, refused, failed
  tool_version      text not null,
  host              text not null,
  process_id        integer not null,
  blue_cluster      text not null,
  blue_keyspace     text not null,
  kong_schema       text not null,
  map_digest        text not null,
  database_oid      oid not null,            -- where this or the next one differs from the database,
  bootstrap_marker  text not null,           -- the entry is history only
  tables            jsonb                    -- counts per table
);

-- Wall time of the phases.
alter table {work}.run add column if not exists seconds jsonb;

create table if not exists {work}.reject (
  run_id       uuid not null references {work}.run on delete cascade,
  table_name   text not null,
  key          jsonb not null,
  column_name  text,
  reason       text not null,
  cause        jsonb,
  row_digest   text not null
);

create table if not exists {work}.definitions (
  run_id       uuid primary key references {work}.run on delete cascade,
  digest       text not null,
  definitions  jsonb not null                -- [table, kind, name, {aspect: text}] each
);

-- The digest of the row: by it a later run recognizes a row of blue that was rejected before.
alter table {work}.reject add column if not exists mark bytea;

-- The ledgers, and which table of which database each describes: for another one it is history only.
-- database_id is the server's own identifier and the database's oid.
create table if not exists {work}.ledger (
  table_name    text primary key,
  table_oid     oid not null,
  database_id   text not null,
  key_columns   text[] not null
);

-- Numbers of the transactions by which our runs wrote, as rows carry them: a row with another one was changed since.
create table if not exists {work}.writer (
  xid           text not null,
  database_id   text not null,
  run_id        uuid not null,
  entered_at    timestamptz not null default clock_timestamp(),
  primary key (database_id, xid)
);
