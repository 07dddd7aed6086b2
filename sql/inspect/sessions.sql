-- Other clients of this database; $1 is our own application_name. Other kongferry processes are excluded: the guard
-- excludes a second one that writes, and the others only read.
select
  pid,
  coalesce(usename::text, '?')                       as user_name,
  coalesce(nullif(application_name, ''), '-')        as application,
  coalesce(host(client_addr), 'local')               as client
from pg_stat_activity
where datname = current_database()
  and pid <> pg_backend_pid()
  and application_name is distinct from $1
  and application_name !~ '^kongferry( rehearsal)? [0-9]+$'
  and coalesce(to_jsonb(pg_stat_activity) ->> 'backend_type', 'client backend') = 'client backend'
order by pid
