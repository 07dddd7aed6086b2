-- How many rows were rejected, per table and reason.
select table_name, reason, count(*) as rows, (array_agg(key::text order by key::text))[1:100] as examples
from {rejects}
group by table_name, reason
order by table_name, reason
