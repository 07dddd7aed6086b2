//! The cutover: its rules and its engine in simulated time over a provider in memory, and the real binary over real
//! name servers.

mod clock;
mod memory;
mod real;
#[path = "../scenarios/schemas.rs"]
mod schemas;
mod simulated;
mod world;
