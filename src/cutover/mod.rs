//! The cutover: new resolutions go from blue to green by DNS in steps, watched, stoppable, and back at once.
//!
//! [`config`] is the file, [`machine`] the rules, [`engine`] what does their bidding. [`gates`] look at health,
//! [`journal`] remembers, [`ports`] is where the world begins. The provider's records and the marker beside them are
//! the truth; everything else explains.

#![allow(
    missing_docs,
    reason = "public for the tests of this crate; a comment stands where the name does not say it all"
)]

pub mod call;
pub mod clock;
pub mod config;
pub mod control;
pub mod databases;
pub mod engine;
pub mod environment;
pub mod exporter;
pub mod gates;
pub mod integrations;
pub mod journal;
mod located_toml;
pub mod machine;
pub mod notice;
pub mod notify;
pub mod offline_status;
pub mod preflight;
pub mod servers;
pub mod session;
pub mod state;
pub mod status;
pub mod step;
