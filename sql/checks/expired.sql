-- Rows whose time ran out between the reading of blue and now: blue has forgotten them too by now (4.11).
with gone as (
  delete from {stage} s
  where s.{expiry} <= now()
  returning {key} as key
), unmended as (
  delete from {work}.stage_repair r
  using gone
  where r.table_name = {table} and r.key = gone.key
)
select count(*) from gone
