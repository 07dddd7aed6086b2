-- The objects of the scratch database before a rehearsal: they are kept.
select coalesce(array_agg(o.oid::bigint), '{}')
from (
  select oid from pg_namespace
  union all select oid from pg_extension
  union all select oid from pg_class
  union all select oid from pg_proc
  union all select oid from pg_type
) o
