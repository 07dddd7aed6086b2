-- How many values were repaired, per table, column and kind of repair.
select table_name, column_name, repair, count(*) as rows, (array_agg(key::text order by key::text))[1:100] as examples
from {repairs}
group by table_name, column_name, repair
order by table_name, column_name, repair
