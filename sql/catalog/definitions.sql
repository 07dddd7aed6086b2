-- Every definition of Kong's schema ($1): what it is, the table it belongs to ('' for none), its name, and its aspects
-- as one JSON object of texts. Rows and statistics are no part of it; nor are object ids, so that two databases with
-- the same definitions answer the same.
--
-- Read with an empty search_path: then every name outside of pg_catalog is written with its schema.
-- Columns that not every version of PostgreSQL since 9.6 has are taken from the row as JSON.
with
space as (
  select oid, nspname, nspowner, nspacl from pg_namespace where nspname = $1
),
relation as (
  select
    c.oid, c.relname::text as name, c.relkind, c.relowner, c.relacl, c.reloptions, c.reltoastrelid, c.reloftype,
    c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.reltablespace,
    (to_jsonb(c) ->> 'relam')::oid as access_method
  from pg_class c
  join space on space.oid = c.relnamespace
),
-- What an extension brought along is the extension's business; see "extension" below.
member as (
  select classid, objid from pg_depend where deptype = 'e'
),
definition (kind, table_name, name, aspects) as (

  select 'schema', '', nspname::text, jsonb_build_object(
    'owner', pg_get_userbyid(nspowner),
    'grants', nspacl::text,
    'comment', obj_description(oid, 'pg_namespace'))
  from space

  union all
  select 'default grants', '', format('%s for objects of type %s', pg_get_userbyid(d.defaclrole), d.defaclobjtype),
    jsonb_build_object('grants', d.defaclacl::text)
  from pg_default_acl d
  join space on space.oid = d.defaclnamespace

  union all
  select 'extension', '', e.extname::text, jsonb_build_object(
    'version', e.extversion,
    'owner', pg_get_userbyid(e.extowner))
  from pg_extension e
  join space on space.oid = e.extnamespace

  union all
  select
    case c.relkind
      when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' when 'S' then 'sequence'
      else 'table'
    end,
    '', c.name, jsonb_build_object(
    'owner', pg_get_userbyid(c.relowner),
    'grants', c.relacl::text,
    'comment', obj_description(c.oid, 'pg_class'),
    'options', (select string_agg(o, ', ' order by o) from unnest(c.reloptions) as o),
    'options of its toast table',
      (select array_to_string(toast.reloptions, ', ') from pg_class toast where toast.oid = c.reltoastrelid),
    'persistence', c.relpersistence::text,
    'row security', nullif(concat_ws(', ',
      case when c.relrowsecurity then 'enabled' end,
      case when c.relforcerowsecurity then 'forced' end), ''),
    'replica identity', c.relreplident::text,
    'tablespace', (select spcname::text from pg_tablespace s where s.oid = c.reltablespace),
    'access method', (select amname::text from pg_am am where am.oid = c.access_method),
    'type', (select format_type(c.reloftype, null) where c.reloftype <> 0),
    'parents', (
      select string_agg(h.inhparent::regclass::text, ', ' order by h.inhseqno) from pg_inherits h where h.inhrelid = c.oid),
    'definition', case when c.relkind in ('v', 'm') then pg_get_viewdef(c.oid) end)
  from relation c
  where c.relkind in ('r', 'p', 'f', 'v', 'm', 'S')

  union all
  select 'column', c.name, a.attname::text, jsonb_build_object(
    'position', (row_number() over (partition by c.oid order by a.attnum))::text,
    'type', format_type(a.atttypid, a.atttypmod),
    'nullability', case when a.attnotnull then 'not null' end,
    'default', case when coalesce(x.j ->> 'attgenerated', '') = '' then pg_get_expr(d.adbin, d.adrelid) end,
    'generated', nullif(concat(x.j ->> 'attgenerated',
      case when x.j ->> 'attgenerated' <> '' then ' ' || pg_get_expr(d.adbin, d.adrelid) end), ''),
    'identity', nullif(x.j ->> 'attidentity', ''),
    'collation', (
      select format('%I.%I', s.nspname, k.collname)
      from pg_collation k join pg_namespace s on s.oid = k.collnamespace
      where k.oid = a.attcollation and a.attcollation <> t.typcollation),
    'storage', a.attstorage::text,
    'compression', nullif(x.j ->> 'attcompression', ''),
    'statistics target', nullif(x.j ->> 'attstattarget', '-1'),
    'options', array_to_string(a.attoptions, ', '),
    'foreign options', array_to_string(a.attfdwoptions, ', '),
    'grants', a.attacl::text,
    'comment', col_description(c.oid, a.attnum))
  from relation c
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  cross join lateral (select to_jsonb(a) as j) x
  join pg_type t on t.oid = a.atttypid
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where c.relkind in ('r', 'p', 'f', 'v', 'm', 'c')

  -- A foreign key is only as good as the internal triggers that enforce it: they can be disabled one by one.
  union all
  select 'constraint', c.name, k.conname::text, jsonb_build_object(
    'definition', pg_get_constraintdef(k.oid),
    'validated', k.convalidated::text,
    'enforced', to_jsonb(k) ->> 'conenforced',
    'inherited from', nullif(k.coninhcount, 0)::text,
    'enforcement', (
      select string_agg(
        format('%s of %s is %s', p.proname, t.tgrelid::regclass, t.tgenabled), ', '
        order by p.proname, t.tgrelid::regclass::text, t.tgenabled)
      from pg_trigger t
      join pg_proc p on p.oid = t.tgfoid
      where t.tgconstraint = k.oid and t.tgisinternal),
    'comment', obj_description(k.oid, 'pg_constraint'))
  from pg_constraint k
  join relation c on c.oid = k.conrelid

  union all
  select 'index', c.name, i.name, jsonb_build_object(
    'definition', pg_get_indexdef(i.oid),
    'owner', pg_get_userbyid(i.relowner),
    'state', concat_ws(', ',
      case when x.indisvalid then 'valid' else 'invalid' end,
      case when not x.indisready then 'not ready' end,
      case when not x.indislive then 'being dropped' end,
      case when not x.indimmediate then 'deferrable' end,
      case when x.indisclustered then 'clustered' end,
      case when x.indisreplident then 'replica identity' end),
    'constraint', (
      select string_agg(k.conname::text, ', ' order by k.conname)
      from pg_constraint k where k.conindid = i.oid and k.contype in ('p', 'u', 'x')),
    'parents', (
      select string_agg(h.inhparent::regclass::text, ', ' order by h.inhseqno) from pg_inherits h where h.inhrelid = i.oid),
    'persistence', i.relpersistence::text,
    'tablespace', (select spcname::text from pg_tablespace s where s.oid = i.reltablespace),
    'statistics targets', (
      select string_agg(format('%s: %s', a.attnum, to_jsonb(a) ->> 'attstattarget'), ', ' order by a.attnum)
      from pg_attribute a
      where a.attrelid = i.oid and nullif(to_jsonb(a) ->> 'attstattarget', '-1') is not null),
    'comment', obj_description(i.oid, 'pg_class'))
  from pg_index x
  join relation i on i.oid = x.indexrelid
  join relation c on c.oid = x.indrelid

  union all
  select 'trigger', c.name, t.tgname::text, jsonb_build_object(
    'definition', pg_get_triggerdef(t.oid),
    'state', case t.tgenabled
      when 'O' then 'enabled' when 'A' then 'enabled always' when 'R' then 'enabled on replicas' when 'D' then 'disabled'
    end,
    'comment', obj_description(t.oid, 'pg_trigger'))
  from pg_trigger t
  join relation c on c.oid = t.tgrelid
  where t.tgconstraint = 0 or not t.tgisinternal

  union all
  select 'rule', c.name, r.rulename::text, jsonb_build_object(
    'definition', pg_get_ruledef(r.oid),
    'state', case r.ev_enabled
      when 'O' then 'enabled' when 'A' then 'enabled always' when 'R' then 'enabled on replicas' when 'D' then 'disabled'
    end,
    'comment', obj_description(r.oid, 'pg_rewrite'))
  from pg_rewrite r
  join relation c on c.oid = r.ev_class
  where r.rulename <> '_RETURN'

  union all
  select 'policy', c.name, p.polname::text, jsonb_build_object(
    'command', p.polcmd::text,
    'permissive', to_jsonb(p) ->> 'polpermissive',
    'roles', (
      select string_agg(case when r = 0 then 'public' else pg_get_userbyid(r)::text end, ', ' order by r)
      from unnest(p.polroles) as r),
    'using', pg_get_expr(p.polqual, p.polrelid),
    'with check', pg_get_expr(p.polwithcheck, p.polrelid),
    'comment', obj_description(p.oid, 'pg_policy'))
  from pg_policy p
  join relation c on c.oid = p.polrelid

  -- pg_get_functiondef() refuses aggregates.
  union all
  select 'function', '', format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), jsonb_build_object(
    'definition', case when g.aggfnoid is null then pg_get_functiondef(p.oid) else concat_ws(', ',
      'aggregate', g.aggtransfn::text, g.aggfinalfn::text, format_type(g.aggtranstype, null), g.agginitval) end,
    'owner', pg_get_userbyid(p.proowner),
    'grants', p.proacl::text,
    'comment', obj_description(p.oid, 'pg_proc'))
  from pg_proc p
  join space on space.oid = p.pronamespace
  left join pg_aggregate g on g.aggfnoid = p.oid
  where not exists (select from member m where m.classid = 'pg_proc'::regclass and m.objid = p.oid)

  -- Neither the types that every table has, nor those of arrays.
  union all
  select 'type', '', t.typname::text, jsonb_build_object(
    'sort', t.typtype::text,
    'labels', (
      select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder) from pg_enum e where e.enumtypid = t.oid),
    'base type', case when t.typbasetype <> 0 then format_type(t.typbasetype, t.typtypmod) end,
    'nullability', case when t.typnotnull then 'not null' end,
    'default', t.typdefault,
    'collation', (
      select format('%I.%I', s.nspname, k.collname)
      from pg_collation k join pg_namespace s on s.oid = k.collnamespace
      where k.oid = t.typcollation and t.typtype = 'd'),
    'constraints', (
      select string_agg(format('%I %s%s', k.conname, pg_get_constraintdef(k.oid),
        case when k.convalidated then '' else ' (not validated)' end), ', ' order by k.conname)
      from pg_constraint k where k.contypid = t.oid),
    'range over', (
      select concat_ws(', ', format_type(r.rngsubtype, null), nullif(r.rngcanonical::oid, 0)::regproc::text,
        nullif(r.rngsubdiff::oid, 0)::regproc::text)
      from pg_range r where r.rngtypid = t.oid),
    'owner', pg_get_userbyid(t.typowner),
    'grants', t.typacl::text,
    'comment', coalesce(obj_description(t.oid, 'pg_type'), obj_description(t.typrelid, 'pg_class')))
  from pg_type t
  join space on space.oid = t.typnamespace
  left join pg_class c on c.oid = t.typrelid
  where (c.oid is null or c.relkind = 'c')
    and not exists (select from pg_type element where element.typarray = t.oid)
    and not exists (select from member m where m.classid = 'pg_type'::regclass and m.objid = t.oid)

  -- Everything else in the schema (operators, collations, text search configurations …): only that it exists.
  union all
  select 'object', '', pg_describe_object(d.classid, d.objid, 0), jsonb_build_object('exists', 'true')
  from pg_depend d
  join space on d.refclassid = 'pg_namespace'::regclass and d.refobjid = space.oid
  where d.deptype = 'n'
    and d.classid not in ('pg_class'::regclass, 'pg_type'::regclass, 'pg_proc'::regclass, 'pg_extension'::regclass,
                          'pg_default_acl'::regclass)
    and d.classid::regclass::text <> 'pg_statistic_ext'
    and not exists (select from member m where m.classid = d.classid and m.objid = d.objid)
)
select kind, table_name, name, jsonb_strip_nulls(aspects) as aspects
from definition
