-- Rows that may be too long for one index (4.13). The limit is about 2700 bytes after compression, and lower() may
-- lengthen a text by half, so what is below 1600 bytes cannot reach it.
select s.ctid::text
from {stage} s
where {length} > 1600
