//! Writing Kong's database: connection, catalog, stage, checks, apply. Knows nothing of Cassandra.

<<<<<<< HEAD
pub mod config;
mod explain;
pub mod session;
pub mod statement;

pub use explain::sqlstate;
=======
pub mod local;
>>>>>>> harness
