//! Scenarios on real servers through the real binary. One binary for all of them, so that they share one Cassandra and
//! one PostgreSQL.

mod bcrypt_rows;
mod bulk_load;
mod conditions;
mod converter_faults;
mod cql_proxy;
mod crashes;
mod credentials;
mod custom_tables;
mod cycles;
mod databases;
mod enterprise;
mod enterprise_incremental;
mod enterprise_large;
mod fixtures;
mod incremental;
mod interruptions;
mod json_validation;
mod large_partition;
mod migrated;
mod mutations;
mod outages;
mod partial_verify;
mod pitfalls;
mod planning;
mod refusals;
mod repair;
mod ring_tokens;
mod roundtrip;
mod row_builder;
mod running;
mod schemas;
mod screens;
mod shared_ids;
mod support;
mod verify;
