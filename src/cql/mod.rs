//! CQL's types and the bytes of its cells (binary protocol v4, section 6). Opens no connection.

pub mod cell;
mod cql_type;

pub use cql_type::CqlType;
