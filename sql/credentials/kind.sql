-- Credentials of one kind, per workspace: how many there are, and what their rows say about their secrets.
select
  w.name as workspace,
  count(*) as total,
  count(*) filter (where {expired}) as expired,
  count(*) filter (where {expires}) as expiring,
  count(*) filter (where g.{secret} is null) as empty,
  count(*) filter (where g.{secret} like '$ke$%') as encrypted,
  count(*) filter (where {hashed}) as hashed,
  count(*) filter (where {fips_mode}) as fips_mode,
  count(*) filter (where {dead}) as dead,
  count(*) filter (where {ownerless}) as ownerless
from {table} g
left join {workspaces} w on w.id = g.ws_id
group by w.id, w.name
order by (w.name <> 'default'), w.name
