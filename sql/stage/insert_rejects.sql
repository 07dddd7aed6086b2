-- Rows rejected while reading one page: arrays of keys, columns, reasons, details, rows and digests.
insert into {rejects} (table_name, key, column_name, reason, detail, row_text, mark)
select {table}, r.key::jsonb, r.column_name, r.reason, r.detail, r.row_text, r.mark
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[])
  as r(key, column_name, reason, detail, row_text, mark)
