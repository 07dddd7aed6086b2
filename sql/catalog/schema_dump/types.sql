-- The types of Kong's schema ($1): enums, domains, composites, ranges. Neither those that every table has, nor those of
-- arrays and multiranges, which PostgreSQL makes itself.
select
  'type ' || t.oid  as item,
  'type'            as kind,
  ''                as table_name,
  t.typname::text   as name,
  case
    when t.typtype = 'e' then format('create type %I.%I as enum (%s)', n.nspname, t.typname, (
      select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
      from pg_enum e where e.enumtypid = t.oid))
    when t.typtype = 'c' then format('create type %I.%I as (%s)', n.nspname, t.typname, (
      select string_agg(
        format('%I %s%s', a.attname, format_type(a.atttypid, a.atttypmod), collation_of.clause), ', ' order by a.attnum)
      from pg_attribute a
      join pg_type own on own.oid = a.atttypid
      left join lateral (
        select format(' collate %I.%I', s.nspname, k.collname) as clause
        from pg_collation k join pg_namespace s on s.oid = k.collnamespace
        where k.oid = a.attcollation and a.attcollation <> own.typcollation) collation_of on true
      where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped))
    when t.typtype = 'd' then concat(
      format('create domain %I.%I as %s', n.nspname, t.typname, format_type(t.typbasetype, t.typtypmod)),
      (
        select format(' collate %I.%I', s.nspname, k.collname)
        from pg_collation k
        join pg_namespace s on s.oid = k.collnamespace
        join pg_type base on base.oid = t.typbasetype
        where k.oid = t.typcollation and t.typcollation <> base.typcollation),
      ' default ' || pg_get_expr(t.typdefaultbin, 0),
      case when t.typnotnull then ' not null' end,
      (
        select string_agg(format(' constraint %I %s', k.conname, pg_get_constraintdef(k.oid)), '' order by k.conname)
        from pg_constraint k where k.contypid = t.oid and k.contype = 'c' and k.convalidated))
    when t.typtype = 'r' and r.rngcanonical = 0 then concat(
      format('create type %I.%I as range (subtype = %s', n.nspname, t.typname, format_type(r.rngsubtype, null)),
      (
        select format(', subtype_opclass = %I.%I', s.nspname, o.opcname)
        from pg_opclass o join pg_namespace s on s.oid = o.opcnamespace where o.oid = r.rngsubopc),
      (
        select format(', collation = %I.%I', s.nspname, k.collname)
        from pg_collation k join pg_namespace s on s.oid = k.collnamespace where k.oid = r.rngcollation),
      case when r.rngsubdiff <> 0 then format(', subtype_diff = %s', r.rngsubdiff) end,
      ')')
  end               as statement,
  case
    when t.typtype not in ('e', 'c', 'd', 'r') or r.rngcanonical <> 0 then 'is made of functions in C'
  end               as obstacle
from pg_type t
join pg_namespace n on n.oid = t.typnamespace
left join pg_class c on c.oid = t.typrelid
left join pg_range r on r.rngtypid = t.oid
where n.nspname = $1
  and (c.oid is null or c.relkind = 'c')
  and t.typtype <> 'm'
  and not exists (select from pg_type element where element.typarray = t.oid)
  and not exists (
    select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
order by t.typname
