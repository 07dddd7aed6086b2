//! kongferry moves the database of Kong Gateway from Apache Cassandra ("blue") to PostgreSQL ("green").
//!
//! Data flows one way: [`blue`] reads, [`mapping`] converts, [`green`] writes; `cli` parses and prints.

// A panic explains nothing: whatever a server sends becomes an error with a remedy. Tests may panic (clippy.toml);
// elsewhere the reason is stated beside it. Modules are public only if tests, tests/harness or benches use them.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod blue;
pub mod catalog;
pub mod cli;
pub mod cql;
mod credentials;
pub mod cutover;
mod cutover_databases;
mod database_info;
pub mod dns;
mod duration;
pub mod error;
mod failpoints;
pub mod finding;
pub mod green;
pub mod http;
mod inspect;
pub mod mapping;
mod migrate;
pub mod process;
mod progress;
mod rehearsal;
mod repair;
mod secrets;
mod settings;
mod spill;
#[cfg(test)]
mod type_pairs;
pub mod verify;
