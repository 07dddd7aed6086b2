-- The foreign keys of Kong's schema ($1). "other" is the table referred to: without it there is no such constraint.
select
  'class ' || c.oid         as item,
  'constraint'              as kind,
  c.relname::text           as table_name,
  k.conname::text           as name,
  format('alter table %I.%I add constraint %I %s', n.nspname, c.relname, k.conname, pg_get_constraintdef(k.oid)) as statement,
  null::text                as obstacle,
  'class ' || k.confrelid   as other
from pg_constraint k
join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and k.contype = 'f'
  -- Those of partitions come with their parent's.
  and coalesce(to_jsonb(k) ->> 'conparentid', '0') = '0'

-- An administrator may have disabled the internal triggers that enforce one ("alter table … disable trigger all"). Their names
-- are made of object ids, so the statement finds them by the constraint.
union all
select 'class ' || c.oid, 'state of constraint', c.relname::text, k.conname::text,
  format($statement$
    do $do$
    declare
      enforcer record;
    begin
      for enforcer in
        select t.tgname, t.tgrelid::regclass as place
        from pg_trigger t
        join pg_constraint k on k.oid = t.tgconstraint
        join pg_proc p on p.oid = t.tgfoid
        where k.conrelid = %L::regclass and k.conname = %L and t.tgrelid = %L::regclass and p.proname = %L
      loop
        execute format('alter table only %%s %s trigger %%I', enforcer.place, enforcer.tgname);
      end loop;
    end
    $do$
    $statement$,
    c.oid::regclass, k.conname, t.tgrelid::regclass, p.proname,
    case t.tgenabled when 'D' then 'disable' when 'A' then 'enable always' when 'R' then 'enable replica' end),
  null,
  'class ' || k.confrelid
from pg_trigger t
join pg_constraint k on k.oid = t.tgconstraint
join pg_proc p on p.oid = t.tgfoid
join pg_class c on c.oid = k.conrelid
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1
  and k.contype = 'f'
  and t.tgisinternal
  and t.tgenabled <> 'O'
order by kind, table_name, name
