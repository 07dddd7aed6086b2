//! Reading Kong's keyspace: connection, catalog, token ranges, pages. Knows nothing of PostgreSQL.

pub mod catalog;
pub mod cell;
pub mod config;
mod consistency;
pub mod cql_type;
mod explain;
pub mod kong;
mod owner;
mod pace;
pub mod scan;
pub mod session;
pub mod slices;
mod tls;
pub mod token;
mod written;

pub use explain::Failure;
