//! Reading Kong's keyspace: connection, catalog, token ranges, pages. Knows nothing of PostgreSQL.

pub mod catalog;
pub mod config;
mod consistency;
mod explain;
mod failure;
pub mod kong;
pub mod node;
pub mod scan;
pub mod session;
pub mod slices;
mod throttle;
mod tls;
pub mod token;
mod token_routing;
mod write_times;

pub use failure::ReadFailure;
