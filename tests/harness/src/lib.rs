//! Real servers and real rows for tests and demo.
//!
//! Nothing here imitates a server: a test that uses it talks to the Cassandra and the PostgreSQL that Kong talks to. Kong
//! itself is the exception: its Admin API and its metrics are modelled on what its sources answer.
//! Most tests begin with [`lab()`] and ask it for a keyspace and a green of their own.

pub mod admin_api;
pub mod cassandra;
pub mod catalog;
pub mod certs;
mod context;
pub mod dns;
pub mod enterprise;
pub mod fill;
pub mod fixture;
pub mod green;
pub mod keyspace;
mod keyspace_pool;
mod lab;
pub mod metrics;
pub mod ports;
pub mod postgres;
pub mod route53;
pub mod shapes;
pub mod tools;

pub use keyspace::Keyspace;
pub use lab::{Lab, lab};
pub use postgres::Database;
