//! Arguments and what is printed; no logic.

pub mod connect;
