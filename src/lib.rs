//! kongferry moves the database of Kong Gateway from Apache Cassandra ("blue") to PostgreSQL ("green").
//!
//! Data flows one way: [`blue`] reads, [`mapping`] converts, [`green`] writes; `cli` parses and prints.

pub mod blue;
pub mod cli;
pub mod credentials;
pub mod error;
pub mod failpoints;
pub mod green;
pub mod inspect;
pub mod mapping;
pub mod migrate;
pub mod process;
pub mod prefixes;
pub mod progress;
pub mod rehearsal;
pub mod settings;
pub mod verify;
