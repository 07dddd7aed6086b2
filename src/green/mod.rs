//! Writing Kong's database: connection, catalog, stage, checks, apply. Knows nothing of Cassandra.

pub mod apply;
pub mod baseline;
pub mod blueprint;
pub mod bootstrap;
pub mod catalog;
mod catalog_settings;
pub mod checks;
pub mod config;
pub mod copy_out;
pub mod cycles;
pub mod definitions;
pub mod deletions;
mod explain;
pub mod first_load;
pub mod history;
pub mod journal;
pub mod kong;
pub mod ledger;
pub mod local;
pub mod merge;
pub mod row_repair;
pub mod session;
pub mod sql;
pub mod stage;
pub mod statement;

pub use explain::sqlstate;
