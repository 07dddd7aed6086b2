//! The cutover: shifts new resolutions from blue to green by DNS in monitored steps, with instant rollback.
//!
//! [`config`] is the file, [`machine`] the pure state machine, [`engine`] carries out its tasks. [`gates`] check health,
//! [`journal`] records, [`environment`] has the traits that the engine needs. The provider's records and the marker
//! beside them decide; the journal only explains.

pub mod call;
pub mod clock;
pub mod config;
pub(crate) mod control;
pub(crate) mod databases;
pub mod engine;
pub mod environment;
pub(crate) mod exporter;
pub mod gates;
pub(crate) mod integrations;
pub mod journal;
mod located_toml;
mod machine;
pub(crate) mod marker;
pub mod notice;
mod notify;
pub(crate) mod offline_status;
pub(crate) mod preflight;
pub(crate) mod servers;
pub mod session;
pub mod state;
pub mod status;
pub(crate) mod step;
