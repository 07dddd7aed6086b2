-- How many values of one unique index occur more than once: for types that have no hash, and before PostgreSQL 14.
(select count(*) from (select from {stage} where {covered} group by {parts} having count(*) > 1) g)
