-- Rows that are entered anew, and rows that have left green.
delete from {ledger} l using {stage} s where {same_staged};
delete from {ledger} l using {gone} d where {same_gone};
