//! Scenarios on real servers through the real binary. One binary for all of them, so that they share one Cassandra and
//! one PostgreSQL.

mod first_load;
mod fixtures;
mod support;
mod verify;
