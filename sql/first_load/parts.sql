-- What is taken off these tables ($2) of Kong's schema ($1) for the time of a first load, in the order of taking off,
-- each with the statements that take it off and put it back exactly as it was, primary keys included: rows come in no
-- order, and keeping an index over them up to date costs more than all the rest. What has a comment, a statistics
-- target, a tablespace or a mark of its own stays: a statement would not bring that back. So does what a view, a rule or
-- a function needs.
with plain as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = any ($2)
), remarked as (
  select classoid, objoid from pg_description
  where objsubid = 0 and classoid in ('pg_class'::regclass, 'pg_constraint'::regclass)
), firing as (
  select 1 as turn, p.name, t.tgname::text as part,
    format('alter table %s disable trigger %I', p.name, t.tgname) as off,
    format('alter table %s enable trigger %I', p.name, t.tgname) as back
  from pg_trigger t
  join plain p on p.oid = t.tgrelid
  where not t.tgisinternal
), referring as (
  select 2 as turn, k.oid as constraint_oid, format('%I.%I', n.nspname, c.relname) as name, k.conname::text as part,
    format('alter table %I.%I drop constraint %I', n.nspname, c.relname, k.conname) as off,
    format('alter table %I.%I add constraint %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) as back
  from pg_constraint k
  join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  where k.contype = 'f'
    and (k.conrelid in (select oid from plain) or k.confrelid in (select oid from plain))
    and not exists (select from remarked r where r.classoid = 'pg_constraint'::regclass and r.objoid = k.oid)
    and not exists (select from pg_trigger t where t.tgconstraint = k.oid and t.tgenabled <> 'O')
), covering as (
  select x.indexrelid, p.name, i.relname::text as part, k.oid as constraint_oid
  from pg_index x
  join plain p on p.oid = x.indrelid
  join pg_class i on i.oid = x.indexrelid
  left join pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
  where x.indisvalid and not x.indisclustered and not x.indisreplident and i.reltablespace = 0
    and not exists (select from pg_attribute a where a.attrelid = i.oid and coalesce(a.attstattarget, -1) >= 0)
    and not exists (
      select from remarked r
      where (r.classoid = 'pg_class'::regclass and r.objoid = i.oid)
         or (r.classoid = 'pg_constraint'::regclass and r.objoid = k.oid)
    )
    and not exists (
      select from pg_depend d
      where d.deptype = 'n' and d.classid <> 'pg_constraint'::regclass
        and (
          (d.refclassid = 'pg_class'::regclass and d.refobjid = i.oid)
          or (d.refclassid = 'pg_constraint'::regclass and d.refobjid = k.oid)
        )
    )
    -- A key that is referred to and whose reference stays must stay as well.
    and not exists (
      select from pg_constraint f
      where f.contype = 'f' and f.conindid = x.indexrelid
        and not exists (select from referring r where r.constraint_oid = f.oid)
    )
), indexed as (
  select 3 as turn, c.name, c.part,
    case when c.constraint_oid is null
      then format('drop index %I.%I', $1, c.part)
      else format('alter table %s drop constraint %I', c.name, c.part) end as off,
    case when c.constraint_oid is null
      then pg_get_indexdef(c.indexrelid)
      else format('alter table %s add constraint %I %s', c.name, c.part, pg_get_constraintdef(c.constraint_oid)) end as back
  from covering c
)
select turn, name, part, off, back from firing
union all select turn, name, part, off, back from referring
union all select turn, name, part, off, back from indexed
order by turn, name, part
