-- PostgreSQL itself decides: each candidate is inserted into an empty table of the same storage with the same index, and
-- deleted again (4.13).
do $probe$
declare
  candidate tid;
begin
  create unlogged table {probe} (
    like {table_ref} including all
    excluding constraints excluding indexes excluding identity excluding statistics excluding comments
  );
  create index on {probe} {definition};
  for candidate in
    select s.ctid from {stage} s where {length} > {candidates}
  loop
    begin
      insert into {probe} ({all_columns}) select {all_columns} from {stage} s where s.ctid = candidate;
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
