-- Tables of Kong's schema ($1), among those named in $2, on which our role lacks a privilege that a migration needs.
select c.relname::text
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and c.relname = any ($2)
  and not (
    has_table_privilege(c.oid, 'SELECT') and has_table_privilege(c.oid, 'INSERT')
    and has_table_privilege(c.oid, 'UPDATE') and has_table_privilege(c.oid, 'DELETE')
  )
order by c.relname
