-- Rows that are inserted again, and rows that were deleted from green.
delete from {ledger} l using {stage} s where {same_staged};
delete from {ledger} l using {deletions} d where {same_deleted};
