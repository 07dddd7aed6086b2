-- Which table of which database a ledger describes.
insert into {work}.ledger (table_name, table_oid, database_id, key_columns)
values ({table}, {table_ref_literal}::regclass, {database_id}, {key_columns})
on conflict (table_name) do update
set table_oid = excluded.table_oid,
    database_id = excluded.database_id,
    key_columns = excluded.key_columns;
