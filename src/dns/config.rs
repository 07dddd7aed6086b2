//! The `[provider]` section of `cutover.toml`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::exec::{self, Exec, ExecConfig};
use super::powerdns::{self, PowerDns, PowerDnsConfig};
use super::rfc2136::{self, Rfc2136, Rfc2136Config};
use super::route53::{self, Route53, Route53Config};
use super::{DnsProvider, DnsResult, Target, http};
use crate::error::Result;

/// Which provider, and what it needs. `kind` decides which keys there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ProviderConfig {
    /// PowerDNS Authoritative by its HTTP API.
    PowerDns(PowerDnsConfig),
    /// Any server that takes signed DNS UPDATE.
    Rfc2136(Rfc2136Config),
    /// Amazon Route 53.
    Route53(Route53Config),
    /// A program of the user's own.
    Exec(ExecConfig),
}

/// Reads the credentials and makes the provider. Only `exec` is asked something on the way: what it can do.
pub async fn connect(config: &ProviderConfig) -> Result<Arc<dyn DnsProvider>> {
    Ok(match config.clone() {
        ProviderConfig::PowerDns(config) => Arc::new(PowerDns::new(config)?),
        ProviderConfig::Rfc2136(config) => Arc::new(Rfc2136::new(config)?),
        ProviderConfig::Route53(config) => Arc::new(Route53::new(config)?),
        ProviderConfig::Exec(config) => Arc::new(Exec::new(config).await?),
    })
}

impl ProviderConfig {
    /// Whether addresses can be used as they are, and hold no credentials. Reads no secret, connects to nothing.
    pub fn check(&self) -> Result<()> {
        match self {
            ProviderConfig::PowerDns(config) => http::check_base("url", &config.url),
            ProviderConfig::Rfc2136(config) => config.check(),
            ProviderConfig::Route53(config) => http::check_base("endpoint", &config.endpoint),
            ProviderConfig::Exec(_) => Ok(()),
        }
    }

    /// How a person brings blue back when this program can read nothing, not even the credentials: commands for a
    /// shell, worked out from the configuration alone, that write blue's values over whatever stands there.
    ///
    /// The marker stays where it can, so that `status` and `finish` still know the old TTLs afterwards.
    pub fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        match self {
            ProviderConfig::PowerDns(config) => powerdns::manual_rollback(config, target, ttl),
            ProviderConfig::Rfc2136(config) => rfc2136::manual_rollback(config, target, ttl),
            ProviderConfig::Route53(config) => route53::manual_rollback(config, target, ttl),
            ProviderConfig::Exec(config) => exec::manual_rollback(config, target, ttl),
        }
    }
}
