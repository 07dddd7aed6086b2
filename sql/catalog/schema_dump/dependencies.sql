-- What the items of Kong's schema ($1) need, themselves or through a part of theirs such as an index.
--   item, need:    as in the other queries; need is null for what is not in the schema
--   description:   what is needed, for a message
--   extension:     the extension that brings it, if one does
--   is_early:      the item cannot be made before what it needs; else only some part of it cannot, and comes later
with
space as (
  select oid from pg_namespace where nspname = $1
),
part (class, oid, item, is_early) as (
  select 'pg_class'::regclass, c.oid,
    case when c.relkind = 'c' then 'type ' || c.reltype else 'class ' || coalesce(x.indrelid, c.oid) end,
    x.indrelid is null
  from pg_class c
  left join pg_index x on x.indexrelid = c.oid
  where c.relnamespace = (select oid from space)

  -- A table's own type is the table; a type of arrays or multiranges is that of what it holds.
  union all
  select 'pg_type'::regclass, t.oid,
    case
      when c.relkind in ('r', 'p', 'v', 'm', 'f') then 'class ' || c.oid
      else 'type ' || coalesce(held.oid, r.rngtypid, t.oid)
    end,
    true
  from pg_type t
  left join pg_type element on element.typarray = t.oid
  left join pg_range r on (to_jsonb(r) ->> 'rngmultitypid')::oid = coalesce(element.oid, t.oid)
  left join pg_type held on held.oid = element.oid and r.rngtypid is null
  left join pg_class c on c.oid = coalesce(held.typrelid, t.typrelid) and c.oid <> 0
  where t.typnamespace = (select oid from space)

  -- The functions that make a range are the range.
  union all
  select 'pg_proc'::regclass, p.oid, coalesce('type ' || d.refobjid, 'proc ' || p.oid), true
  from pg_proc p
  left join pg_depend d on d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'i'
    and d.refclassid = 'pg_type'::regclass
  where p.pronamespace = (select oid from space)

  union all
  select 'pg_attrdef'::regclass, d.oid, 'class ' || d.adrelid, coalesce(to_jsonb(a) ->> 'attgenerated', '') <> ''
  from pg_attrdef d
  join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
  join pg_class c on c.oid = d.adrelid
  where c.relnamespace = (select oid from space)

  union all
  select 'pg_constraint'::regclass, k.oid,
    case when k.contypid <> 0 then 'type ' || k.contypid else 'class ' || k.conrelid end,
    k.contypid <> 0
  from pg_constraint k
  where k.connamespace = (select oid from space)

  union all
  select 'pg_trigger'::regclass, t.oid, 'class ' || t.tgrelid, false
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  where c.relnamespace = (select oid from space) and not t.tgisinternal

  union all
  select 'pg_rewrite'::regclass, r.oid, 'class ' || r.ev_class, r.rulename = '_RETURN'
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class
  where c.relnamespace = (select oid from space)
)
select distinct
  p.item,
  n.item                                                     as need,
  pg_describe_object(d.refclassid, d.refobjid, 0)            as description,
  e.extname::text                                            as extension,
  p.is_early
from pg_depend d
join part p on p.class = d.classid and p.oid = d.objid
left join part n on n.class = d.refclassid and n.oid = d.refobjid
-- An extension has the type of an array's elements, the array itself only through them.
left join pg_type held on d.refclassid = 'pg_type'::regclass and held.typarray = d.refobjid
left join pg_depend m on m.classid = d.refclassid and m.objid = coalesce(held.oid, d.refobjid) and m.deptype = 'e'
left join pg_extension e on e.oid = m.refobjid
where p.item is distinct from n.item
  -- An item is no part of its extension's, nor a sequence of its table's, in what it needs.
  and d.deptype not in ('e', 'x')
  and not exists (select from pg_class s where d.classid = 'pg_class'::regclass and s.oid = d.objid and s.relkind = 'S')
  -- What every server has (the first oid of a user's object is 16384), or what is not rebuilt.
  and d.refobjid >= 16384
  and d.refclassid not in (
    'pg_namespace'::regclass, 'pg_authid'::regclass, 'pg_tablespace'::regclass, 'pg_am'::regclass)
