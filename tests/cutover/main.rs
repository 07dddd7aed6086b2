//! The cutover: its rules and its engine in simulated time with a provider in memory, and the real binary with real
//! servers.

mod memory_provider;
mod real;
#[path = "../scenarios/schemas.rs"]
mod schemas;
mod simulated;
mod simulated_clock;
mod simulation;
