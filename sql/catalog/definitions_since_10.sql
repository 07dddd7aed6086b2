-- More definitions of Kong's schema ($1), of what PostgreSQL has only since version 10: partitions, the parameters of
-- sequences, extended statistics. Appended to definitions.sql.
union all
select 'partitioning', '', c.relname::text, jsonb_strip_nulls(jsonb_build_object(
  'key', case when c.relkind = 'p' then pg_get_partkeydef(c.oid) end,
  'bound', pg_get_expr(c.relpartbound, c.oid)))
from pg_class c
join space on space.oid = c.relnamespace
where c.relkind = 'p' or (c.relispartition and c.relkind in ('r', 'f'))

union all
select 'sequence parameters', '', c.relname::text, jsonb_strip_nulls(jsonb_build_object(
  'type', format_type(q.seqtypid, null),
  'start', q.seqstart::text,
  'increment', q.seqincrement::text,
  'minimum', q.seqmin::text,
  'maximum', q.seqmax::text,
  'cache', q.seqcache::text,
  'cycle', q.seqcycle::text,
  'owned by', (
    select string_agg(format('%s.%I', d.refobjid::regclass, a.attname), ', ')
    from pg_depend d
    join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
    where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype in ('a', 'i'))))
from pg_sequence q
join pg_class c on c.oid = q.seqrelid
join space on space.oid = c.relnamespace

union all
select 'extended statistics', t.relname::text, s.stxname::text, jsonb_strip_nulls(jsonb_build_object(
  'definition', pg_get_statisticsobjdef(s.oid),
  'owner', pg_get_userbyid(s.stxowner),
  'target', nullif(to_jsonb(s) ->> 'stxstattarget', '-1'),
  'comment', obj_description(s.oid, 'pg_statistic_ext')))
from pg_statistic_ext s
join space on space.oid = s.stxnamespace
join pg_class t on t.oid = s.stxrelid
