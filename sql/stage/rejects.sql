-- Every rejected row, for the rejects file.
select table_name, key::text as key, column_name, reason, detail, cause::text as cause, row_text
from {rejects}
order by table_name, reason, key::text
