-- Whether a column holds cipher text of the keyring in a workspace ($1; null is any).
select exists (
  select from {table} g
  where g.{column} like '$ke$%' and ($1 is null or g.{workspace}::text = $1)
)
