-- Our own schema ($1): whether it exists, and whether it is usable: tables may be created in it, or it may be created.
select
  n.oid is not null as exists,
  coalesce(
    has_schema_privilege(n.oid, 'CREATE') and has_schema_privilege(n.oid, 'USAGE'),
    has_database_privilege(current_database(), 'CREATE')
  ) as is_usable
from (select $1::name as name) wanted
left join pg_namespace n on n.nspname = wanted.name
