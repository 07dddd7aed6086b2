//! Writing Kong's database: connection, catalog, stage, checks, apply. Knows nothing of Cassandra.

pub mod blueprint;
mod catalog_settings;
pub mod config;
pub mod definitions;
mod explain;
pub mod session;
pub mod statement;

pub use explain::sqlstate;
