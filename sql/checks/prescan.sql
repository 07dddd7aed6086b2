-- What one scan of a table's stage tells: for each unique index how many values come twice, for each index how many
-- rows may be too long for it.
select array[{counts}] from {stage} s
