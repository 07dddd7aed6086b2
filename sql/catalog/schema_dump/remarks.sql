-- What decides about no row, but shall be the same: extended statistics, replica identity, clustering, comments; and of
-- sequences that belong to a column, the place after the rows that were copied.
with
space as (
  select oid, nspname from pg_namespace where nspname = $1
),
relation as (
  select c.oid, c.relname, c.relkind, c.reltype, c.relreplident, space.nspname
  from pg_class c
  join space on space.oid = c.relnamespace
),
remark (item, kind, table_name, name, statement) as (

  select 'class ' || c.oid, 'extended statistics', c.relname::text, s.stxname::text, pg_get_statisticsobjdef(s.oid)
  from pg_statistic_ext s
  join relation c on c.oid = s.stxrelid
  where s.stxnamespace = (select oid from space)

  union all
  select 'class ' || c.oid, 'replica identity', c.relname::text, '',
    format('alter table %I.%I replica identity %s', c.nspname, c.relname, case c.relreplident
      when 'f' then 'full' when 'n' then 'nothing' else format('using index %I', i.relname) end)
  from relation c
  left join pg_index x on x.indrelid = c.oid and x.indisreplident
  left join pg_class i on i.oid = x.indexrelid
  where c.relkind in ('r', 'p') and (c.relreplident in ('f', 'n') or i.oid is not null)

  union all
  select 'class ' || c.oid, 'order', c.relname::text, i.relname::text,
    format('alter table %I.%I cluster on %I', c.nspname, c.relname, i.relname)
  from relation c
  join pg_index x on x.indrelid = c.oid and x.indisclustered and x.indisvalid
  join pg_class i on i.oid = x.indexrelid

  union all
  select 'class ' || c.oid, 'sequence of column', c.relname::text, a.attname::text,
    format('select pg_catalog.setval(%L, max(%I)) from %I.%I having max(%I) between %s and %s',
      s.oid::regclass, a.attname, c.nspname, c.relname, a.attname, q.seqmin, q.seqmax)
  from pg_depend d
  join pg_sequence q on q.seqrelid = d.objid and q.seqincrement > 0
  join relation s on s.oid = d.objid
  join relation c on c.oid = d.refobjid
  join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
  where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
    and a.atttypid in ('smallint'::regtype, 'integer'::regtype, 'bigint'::regtype)

  union all
  select null, 'comment on schema', '', nspname::text,
    format('comment on schema %I is %L', nspname, obj_description(oid, 'pg_namespace'))
  from space
  where obj_description(oid, 'pg_namespace') is not null

  union all
  select
    case c.relkind when 'c' then 'type ' || c.reltype else 'class ' || coalesce(x.indrelid, c.oid) end,
    'comment on ' || word.word, '', c.relname::text,
    format('comment on %s %I.%I is %L', word.word, c.nspname, c.relname, d.description)
  from pg_description d
  join relation c on c.oid = d.objoid
  left join pg_index x on x.indexrelid = c.oid
  cross join lateral (select case c.relkind
    when 'v' then 'view' when 'S' then 'sequence' when 'i' then 'index' when 'I' then 'index' when 'c' then 'type'
    else 'table' end as word) word
  where d.classoid = 'pg_class'::regclass and d.objsubid = 0
    and (x.indexrelid is null or x.indisvalid or c.relkind = 'I')

  union all
  select case c.relkind when 'c' then 'type ' || c.reltype else 'class ' || c.oid end,
    'comment on column', c.relname::text, a.attname::text,
    format('comment on column %I.%I.%I is %L', c.nspname, c.relname, a.attname, d.description)
  from pg_description d
  join relation c on c.oid = d.objoid
  join pg_attribute a on a.attrelid = c.oid and a.attnum = d.objsubid
  where d.classoid = 'pg_class'::regclass and d.objsubid > 0 and c.relkind in ('r', 'p', 'v', 'c')

  union all
  select case when k.contypid <> 0 then 'type ' || k.contypid else 'class ' || k.conrelid end,
    'comment on constraint', coalesce(c.relname, '')::text, k.conname::text,
    format('comment on constraint %I on %s is %L', k.conname,
      case when k.contypid <> 0 then 'domain ' || k.contypid::regtype else k.conrelid::regclass::text end, d.description)
  from pg_description d
  join pg_constraint k on k.oid = d.objoid
  left join relation c on c.oid = k.conrelid
  where d.classoid = 'pg_constraint'::regclass and k.connamespace = (select oid from space)
    -- A partition's foreign key is made by PostgreSQL, under a name of its own.
    and not (k.contype = 'f' and coalesce(to_jsonb(k) ->> 'conparentid', '0') <> '0')

  union all
  select 'class ' || c.oid, 'comment on trigger', c.relname::text, t.tgname::text,
    format('comment on trigger %I on %I.%I is %L', t.tgname, c.nspname, c.relname, d.description)
  from pg_description d
  join pg_trigger t on t.oid = d.objoid
  join relation c on c.oid = t.tgrelid
  where d.classoid = 'pg_trigger'::regclass

  union all
  select 'class ' || c.oid, 'comment on rule', c.relname::text, r.rulename::text,
    format('comment on rule %I on %I.%I is %L', r.rulename, c.nspname, c.relname, d.description)
  from pg_description d
  join pg_rewrite r on r.oid = d.objoid
  join relation c on c.oid = r.ev_class
  where d.classoid = 'pg_rewrite'::regclass

  union all
  select 'proc ' || p.oid, 'comment on function', '', p.proname::text,
    format('comment on %s %s is %L', case to_jsonb(p) ->> 'prokind' when 'p' then 'procedure' else 'function' end,
      p.oid::regprocedure, d.description)
  from pg_description d
  join pg_proc p on p.oid = d.objoid
  where d.classoid = 'pg_proc'::regclass and p.pronamespace = (select oid from space)

  union all
  select 'type ' || t.oid, 'comment on type', '', t.typname::text,
    format('comment on %s %s is %L', case when t.typtype = 'd' then 'domain' else 'type' end, t.oid::regtype, d.description)
  from pg_description d
  join pg_type t on t.oid = d.objoid
  where d.classoid = 'pg_type'::regclass and t.typnamespace = (select oid from space)
)
select item, kind, table_name, name, statement, null::text as obstacle
from remark
order by kind, table_name, name
