-- How many values were mended, per table, column and way.
select table_name, column_name, repair, count(*) as rows, (array_agg(key::text order by key::text))[1:100] as examples
from {repairs}
group by table_name, column_name, repair
order by table_name, column_name, repair
