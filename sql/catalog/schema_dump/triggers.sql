-- The triggers and rules of Kong's schema ($1), then whether each is enabled. Partitions have their parent's triggers,
-- but their own states.
with
trigger as (
  select t.oid, t.tgrelid, t.tgname, t.tgenabled, n.nspname, c.relname,
    not t.tgisinternal and coalesce(to_jsonb(t) ->> 'tgparentid', '0') = '0' as is_own
  from pg_trigger t
  join pg_class c on c.oid = t.tgrelid
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1
    and (not t.tgisinternal or t.tgconstraint = 0)
),
rule as (
  select r.oid, r.ev_class, r.rulename, r.ev_enabled, n.nspname, c.relname
  from pg_rewrite r
  join pg_class c on c.oid = r.ev_class
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1
    and r.rulename <> '_RETURN'
),
step (item, kind, table_name, name, statement, position) as (
  select 'class ' || tgrelid, 'trigger', relname::text, tgname::text, pg_get_triggerdef(oid), 1
  from trigger
  where is_own

  -- Every state, since a partition may have another than its parent, which it was made with.
  union all
  select 'class ' || tgrelid, 'state of trigger', relname::text, tgname::text,
    format('alter table only %I.%I %s trigger %I', nspname, relname,
      case tgenabled when 'D' then 'disable' when 'A' then 'enable always' when 'R' then 'enable replica' else 'enable' end,
      tgname),
    2
  from trigger
  where tgenabled <> 'O' or not is_own

  union all
  select 'class ' || ev_class, 'rule', relname::text, rulename::text, pg_get_ruledef(oid), 3
  from rule

  union all
  select 'class ' || ev_class, 'state of rule', relname::text, rulename::text,
    format('alter table %I.%I %s rule %I', nspname, relname,
      case ev_enabled when 'D' then 'disable' when 'A' then 'enable always' else 'enable replica' end, rulename),
    4
  from rule
  where ev_enabled <> 'O'
)
select item, kind, table_name, name, statement, null::text as obstacle
from step
order by position, table_name, name
