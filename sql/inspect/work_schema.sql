-- Whether our own schema ($1) can be used: it is there and tables may be made in it, or it may be made.
select coalesce(
  (select has_schema_privilege(n.oid, 'CREATE') and has_schema_privilege(n.oid, 'USAGE')
   from pg_namespace n where n.nspname = $1),
  has_database_privilege(current_database(), 'CREATE')
)
