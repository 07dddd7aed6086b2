-- One scan of a table's stage: for each unique index the number of repeated values, for each index the number of rows
-- that may be too long for it.
select array[{counts}] from {stage} s
