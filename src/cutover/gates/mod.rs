//! Gates: health checks that pass, fail or are inconclusive.
//!
//! No data, no number, more than one number and no answer are inconclusive, never a pass.

mod command;
pub(crate) mod config;
mod kong;
pub mod measurement;
pub(crate) mod metrics;
pub(crate) mod policy;
mod probe;
pub(crate) mod prometheus;
mod query;
pub(crate) mod runner;
pub(crate) mod tally;
