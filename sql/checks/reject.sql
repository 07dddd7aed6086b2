-- Moves the rows that the checks found from the stage to the rejects; the first finding about a row counts.
with first as (
  select distinct on (row_id) row_id, column_name, reason, detail, cause
  from {work}.stage_bad
  where table_name = {table}
  order by row_id, found
), rejected as (
  delete from {stage} s
  using first
  where s.ctid = first.row_id
  returning {key} as key{own_keys}, first.column_name, first.reason, first.detail, first.cause, row_to_json((select r from (select {row}) r))::text as row_text, s.kongferry_digest as mark
), deleted_repairs as (
  delete from {work}.stage_repair r
  using rejected
  where r.table_name = {table} and r.key = rejected.key
), deleted_findings as (
  delete from {work}.stage_bad where table_name = {table}
){deletion}, inserted as (
  insert into {work}.stage_reject (table_name, key, column_name, reason, detail, cause, row_text, mark)
  select {table}, key, column_name, reason, detail, cause, row_text, mark from rejected
)
select count(*) from rejected
