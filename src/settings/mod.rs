//! Settings from files: `kongferry.toml`, Kong's own configuration, passwords. Nothing here connects, and no file is
//! written.

pub mod file;
pub mod kong_conf;
pub mod password;
mod penlight;
