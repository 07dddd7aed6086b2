//! The cutover: shifts new resolutions from blue to green by DNS in monitored steps, with instant rollback.
//!
//! [`config`] is the file, [`machine`] the pure state machine, [`engine`] carries out its tasks. [`gates`] check health,
//! [`journal`] records, [`environment`] has the traits for everything outside. The provider's records and the marker
//! beside them are the truth; the journal only explains.

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
