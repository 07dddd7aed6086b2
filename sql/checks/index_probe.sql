-- Asks PostgreSQL itself: each candidate is put into an empty table with a copy of the index, and taken back out.
do $probe$
declare
  candidate tid;
begin
  create unlogged table {probe} as select * from {stage} with no data;
  create index on {probe} using {method} ({parts});
  for candidate in
    select s.ctid from {stage} s where {length} > 1600
  loop
    begin
      insert into {probe} select * from {stage} s where s.ctid = candidate;
      delete from {probe};
    exception when program_limit_exceeded then
      insert into {work}.stage_bad (table_name, row_id, column_name, reason, detail)
      select {table}, candidate, {columns}, 'index_row_too_large', {length} || ' bytes, for the index ' || {index}
      from {stage} s
      where s.ctid = candidate;
    end;
  end loop;
  drop table {probe};
end
$probe$
