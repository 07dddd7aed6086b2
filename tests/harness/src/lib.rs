//! Real servers and real rows for tests and demo.
//!
//! Nothing here imitates a server: a test that uses it talks to the Cassandra and the PostgreSQL that Kong talks to.

mod because;
pub mod cassandra;
pub mod certs;
mod tools;
