-- Tables, views and sequences that are not the server's own.
select count(*)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname !~ '^pg_'
  and n.nspname <> 'information_schema'
