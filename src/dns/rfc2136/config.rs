//! `[provider]` with `kind = "rfc2136"`, and the flags of `cutover init` for it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm as WireAlgorithm;
use serde::{Deserialize, Serialize};

use crate::dns::legacy_duration::or_seconds;
use crate::dns::providers::InitArgs;
use crate::dns::toml_draft::{TomlDraft, quote, secret_source};
use crate::dns::{DomainName, SecretSource};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rfc2136Config {
    /// The primary server, which accepts updates: `ns1.example.com` or `192.0.2.53:53`.
    pub server: String,
    pub tsig: TsigConfig,
    /// Of each query and update.
    #[serde(default = "default_timeout", alias = "timeout_seconds", deserialize_with = "or_seconds")]
    pub timeout: Duration,
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

/// The TSIG key that signs updates.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TsigConfig {
    pub name: DomainName,
    #[serde(default)]
    pub algorithm: TsigAlgorithm,
    /// In base64, as in the server's configuration.
    pub secret: SecretSource,
}

/// Those that are not deprecated; the default is that of `tsig-keygen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    #[default]
    HmacSha256,
    HmacSha384,
    HmacSha512,
}

impl TsigAlgorithm {
    pub(super) fn wire(self) -> WireAlgorithm {
        match self {
            TsigAlgorithm::HmacSha256 => WireAlgorithm::HmacSha256,
            TsigAlgorithm::HmacSha384 => WireAlgorithm::HmacSha384,
            TsigAlgorithm::HmacSha512 => WireAlgorithm::HmacSha512,
        }
    }
}

/// `host:port`, with port 53 by default.
pub(super) fn with_port(server: &str) -> Result<String> {
    if let Ok(address) = server.parse::<SocketAddr>() {
        return Ok(address.to_string());
    }
    if let Ok(address) = server.parse::<std::net::IpAddr>() {
        return Ok(SocketAddr::new(address, 53).to_string());
    }
    let (host, port) = server.rsplit_once(':').unwrap_or((server, "53"));
    let invalid = || {
        Error::usage(format!("provider.server in cutover.toml is no host: \"{}\"", server.escape_debug()))
            .remedy("Set server to a name or an address, followed by :PORT if the port is not 53.")
    };
    let host: DomainName = host.parse().map_err(|_| invalid())?;
    let port: u16 = port.parse().map_err(|_| invalid())?;
    Ok(format!("{}:{port}", host.without_dot()))
}

#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Rfc2136Args {
    /// Primary server, ns1.example.com or 192.0.2.53:53
    #[arg(long, value_name = "ADDRESS", help_heading = "RFC 2136")]
    server: Option<String>,

    /// Name of the TSIG key [default: kongferry]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136")]
    tsig_name: Option<String>,

    /// Algorithm: hmac-sha256, hmac-sha384 or hmac-sha512 [default: hmac-sha256]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136")]
    tsig_algorithm: Option<String>,

    /// Environment variable with the key's base64 secret [default: KONGFERRY_TSIG]
    #[arg(long, value_name = "NAME", help_heading = "RFC 2136", conflicts_with = "tsig_secret_file")]
    tsig_secret_env: Option<String>,

    /// File with the key's base64 secret
    #[arg(long, value_name = "FILE", help_heading = "RFC 2136")]
    tsig_secret_file: Option<PathBuf>,
}

impl InitArgs for Rfc2136Args {
    fn write(&self, table: &mut TomlDraft) -> Option<&'static str> {
        table.text("server", self.server.as_deref().unwrap_or("192.0.2.53:53"));
        let name = quote(self.tsig_name.as_deref().unwrap_or("kongferry"));
        let algorithm = self.tsig_algorithm.as_ref();
        let algorithm = algorithm.map(|name| format!("algorithm = {}, ", quote(name))).unwrap_or_default();
        let (env, file) = (self.tsig_secret_env.as_deref(), self.tsig_secret_file.as_deref());
        let secret = secret_source(env, file, "KONGFERRY_TSIG");
        table.value("tsig", &format!("{{ name = {name}, {algorithm}secret = {secret} }}"));
        self.server.is_none().then_some("--server")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_name_or_an_address_with_an_optional_port() {
        for (configured, expected) in [
            ("ns1.example.com", "ns1.example.com:53"),
            ("ns1.example.com:5353", "ns1.example.com:5353"),
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(with_port(configured).unwrap(), expected);
        }
        assert!(with_port("ns1.example.com:x").is_err());
    }
}
