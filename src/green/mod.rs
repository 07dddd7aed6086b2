//! Writing Kong's database: connection, catalog, stage, checks, apply. Knows nothing of Cassandra.

pub mod local;
