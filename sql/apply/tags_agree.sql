-- Whether the table of tags that green's triggers maintain agrees with the entities: as many rows, and the same sum of
-- their 64-bit hashes. Two scans that several workers share, instead of a join of two large tables.
select
  (select (count(*), sum(hash_record_extended(e, 0))) from ({entities}) e)
  is not distinct from
  (
    select (count(*), sum(hash_record_extended(row(t.{entity_id}, t.{entity_name}, t.{tags}), 0)))
    from {tags_ref} t
  )
