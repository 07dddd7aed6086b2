//! Reading Kong's keyspace: connection, catalog, token ranges, pages. Knows nothing of PostgreSQL.

pub mod config;
mod explain;
pub mod session;
mod tls;

pub use explain::Failure;
