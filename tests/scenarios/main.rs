//! Scenarios on real servers through the real binary. One binary for all of them, so that they share one Cassandra and
//! one PostgreSQL.

mod bcrypt_rows;
mod conditions;
mod cql_proxy;
mod crashes;
mod credentials;
mod custom_tables;
mod cycles;
mod enterprise;
mod enterprise_again;
mod enterprise_large;
mod faults;
mod first_load;
mod fixtures;
mod incremental;
mod interruptions;
mod json_judgement;
mod moved;
mod mutations;
mod one_partition;
mod outages;
mod part;
mod planning;
mod refusals;
mod repair;
mod roundtrip;
mod rows;
mod running;
mod screens;
mod shared_ids;
mod sides;
mod support;
mod tokens;
mod traps;
mod verify;
