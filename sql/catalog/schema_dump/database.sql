-- What decides, for the whole database, how text is encoded, compared and put into lower case.
select
  pg_encoding_to_char(encoding)::text as encoding,
  datcollate::text                    as collate,
  datctype::text                      as ctype
from pg_database
where datname = current_database()
