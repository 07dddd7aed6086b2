-- Settings, for this transaction only, under which a catalog describes its objects in one and the same way, and under
-- which another server reads these descriptions as they were meant. The empty search_path makes every name outside of
-- pg_catalog come with its schema. Settings that this version of PostgreSQL does not have are left alone.
select set_config(wanted.name, wanted.value, true)
from (values
  ('search_path', ''),
  ('quote_all_identifiers', 'off'),
  ('DateStyle', 'ISO, YMD'),
  ('IntervalStyle', 'postgres'),
  ('TimeZone', 'UTC'),
  ('extra_float_digits', '3'),
  ('bytea_output', 'hex'),
  -- A function's body may name tables that are created after it.
  ('check_function_bodies', 'off'),
  ('client_min_messages', 'warning'),
  -- Compiling a query over the catalogs takes longer than running it.
  ('jit', 'off')
) as wanted (name, value)
join pg_settings s on s.name = wanted.name
