-- What a Kong node must list in its default workspace: collections of the Admin API that have rows there, in the order
-- in which they are requested. A node reads the workspace's id when it starts; one that was started before a migration
-- has another id, and lists nothing.
select collection
from (
  select 1, 'services',     exists (select from {kong}.services t     where t.ws_id = d.id) from {kong}.workspaces d where d.name = 'default'
  union all
  select 2, 'routes',       exists (select from {kong}.routes t       where t.ws_id = d.id) from {kong}.workspaces d where d.name = 'default'
  union all
  select 3, 'consumers',    exists (select from {kong}.consumers t    where t.ws_id = d.id) from {kong}.workspaces d where d.name = 'default'
  union all
  select 4, 'upstreams',    exists (select from {kong}.upstreams t    where t.ws_id = d.id) from {kong}.workspaces d where d.name = 'default'
  union all
  select 5, 'certificates', exists (select from {kong}.certificates t where t.ws_id = d.id) from {kong}.workspaces d where d.name = 'default'
) collections (position, collection, has_rows)
where has_rows
order by position
