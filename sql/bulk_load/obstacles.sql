-- What rules out a bulk load of these tables ($2) of Kong's schema ($1): one sentence each, no row where nothing does.
-- $3 are the functions of Kong's own triggers.
select format('the role may not alter the table %I', c.relname)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = any ($2) and not pg_has_role(c.relowner, 'USAGE')
union all
select format('the trigger %I of %I is not one of Kong''s, or does not fire as Kong''s do', t.tgname, c.relname)
from pg_trigger t
join pg_class c on c.oid = t.tgrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_proc p on p.oid = t.tgfoid
where n.nspname = $1 and c.relname = any ($2) and not t.tgisinternal
  and (p.proname <> all ($3) or t.tgenabled <> 'O')
union all
select format('the table %I has row security, rules, children or partitions', c.relname)
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = $1 and c.relname = any ($2)
  and (c.relrowsecurity or c.relhasrules or c.relhassubclass or c.relkind <> 'r')
union all
select format('the table %s outside of Kong''s schema refers to %I', k.conrelid::regclass, c.relname)
from pg_constraint k
join pg_class c on c.oid = k.confrelid
join pg_namespace n on n.oid = c.relnamespace
join pg_class child on child.oid = k.conrelid
where k.contype = 'f' and n.nspname = $1 and c.relname = any ($2) and child.relnamespace <> c.relnamespace
