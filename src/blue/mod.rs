//! Reading Kong's keyspace: connection, catalog, token ranges, pages. Knows nothing of PostgreSQL.
