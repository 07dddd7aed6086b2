-- Rows that expired between the reading of blue and now: blue does not return them any more either (4.11).
with expired as (
  delete from {stage} s
  where s.{expiry} <= now()
  returning {key} as key
), deleted_repairs as (
  delete from {work}.stage_repair r
  using expired
  where r.table_name = {table} and r.key = expired.key
)
select count(*) from expired
