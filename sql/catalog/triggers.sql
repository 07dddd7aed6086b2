-- Every trigger of Kong's schema ($1) but the internal ones of foreign keys: what it calls, and whether it fires.
select
  c.relname::text    as table_name,
  t.tgname::text     as trigger_name,
  p.proname::text    as function_name,
  t.tgenabled::text  as enabled
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_proc p on p.oid = t.tgfoid
where n.nspname = $1
  and not t.tgisinternal
order by c.relname, t.tgname
