-- How many rows have at least one repaired value, per table.
select table_name, count(distinct key) as rows
from {repairs}
group by table_name
