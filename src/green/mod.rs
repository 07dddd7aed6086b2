//! Writing Kong's database: connection, catalog, stage, checks, apply. Knows nothing of Cassandra.

pub mod config;
mod explain;
pub mod local;
pub mod session;
pub mod statement;

pub use explain::sqlstate;
