-- The triggers, foreign keys, constraints and indexes of these tables ($2) of Kong's schema ($1) that a bulk load drops,
-- in the order of dropping, each with the statements that drop it and restore it exactly as it was. Primary keys are
-- included: rows arrive in no order, and maintaining an index over them costs more than all the rest. What has a comment,
-- a statistics target or a tablespace of its own, or is clustered on or a replica identity, is kept: the statement would
-- not restore that. So is what a view, a rule or a function depends on.
with tables as (
  select c.oid, format('%I.%I', n.nspname, c.relname) as name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = any ($2)
), commented as (
  select classoid, objoid from pg_description
  where objsubid = 0 and classoid in ('pg_class'::regclass, 'pg_constraint'::regclass)
), triggers as (
  select 1 as position, p.name, t.tgname::text as object,
    format('alter table %s disable trigger %I', p.name, t.tgname) as drop_sql,
    format('alter table %s enable trigger %I', p.name, t.tgname) as restore_sql
  from pg_trigger t
  join tables p on p.oid = t.tgrelid
  where not t.tgisinternal
), foreign_keys as (
  select 2 as position, k.oid as constraint_oid, format('%I.%I', n.nspname, c.relname) as name, k.conname::text as object,
    format('alter table %I.%I drop constraint %I', n.nspname, c.relname, k.conname) as drop_sql,
    format('alter table %I.%I add constraint %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) as restore_sql
  from pg_constraint k
  join pg_class c on c.oid = k.conrelid
  join pg_namespace n on n.oid = c.relnamespace
  where k.contype = 'f'
    and (k.conrelid in (select oid from tables) or k.confrelid in (select oid from tables))
    and not exists (select from commented r where r.classoid = 'pg_constraint'::regclass and r.objoid = k.oid)
    and not exists (select from pg_trigger t where t.tgconstraint = k.oid and t.tgenabled <> 'O')
), candidates as (
  select x.indexrelid, p.name, i.relname::text as object, k.oid as constraint_oid
  from pg_index x
  join tables p on p.oid = x.indrelid
  join pg_class i on i.oid = x.indexrelid
  left join pg_constraint k on k.conindid = x.indexrelid and k.contype in ('p', 'u', 'x')
  where x.indisvalid and not x.indisclustered and not x.indisreplident and i.reltablespace = 0
    and not exists (select from pg_attribute a where a.attrelid = i.oid and coalesce(a.attstattarget, -1) >= 0)
    and not exists (
      select from commented r
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
    -- A key that a kept foreign key refers to is kept as well.
    and not exists (
      select from pg_constraint f
      where f.contype = 'f' and f.conindid = x.indexrelid
        and not exists (select from foreign_keys r where r.constraint_oid = f.oid)
    )
), indexes as (
  select 3 as position, c.name, c.object,
    case when c.constraint_oid is null
      then format('drop index %I.%I', $1, c.object)
      else format('alter table %s drop constraint %I', c.name, c.object) end as drop_sql,
    case when c.constraint_oid is null
      then pg_get_indexdef(c.indexrelid)
      else format('alter table %s add constraint %I %s', c.name, c.object, pg_get_constraintdef(c.constraint_oid)) end as restore_sql
  from candidates c
)
select position, name, object, drop_sql, restore_sql from triggers
union all select position, name, object, drop_sql, restore_sql from foreign_keys
union all select position, name, object, drop_sql, restore_sql from indexes
order by position, name, object
