//! What the user wrote down elsewhere than on the command line: `kongferry.toml` and Kong's own configuration.
//!
//! Reading only: nothing here connects, and no file is written.

pub mod file;
pub mod kong_conf;
pub mod password;
