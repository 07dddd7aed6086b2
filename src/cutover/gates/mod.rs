//! Gates: health checks that pass, fail or are inconclusive.
//!
//! No data, no number, more than one number and no answer are inconclusive, never a pass.

pub mod command;
pub mod config;
pub mod kong;
pub mod measurement;
pub mod metrics;
pub mod policy;
pub mod probe;
pub mod prometheus;
pub mod query;
pub mod runner;
pub mod tally;
