//! The `[provider]` section of `cutover.toml`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::DnsProvider;
use super::exec::{Exec, ExecConfig};
use super::powerdns::{PowerDns, PowerDnsConfig};
use super::rfc2136::{Rfc2136, Rfc2136Config};
use super::route53::{Route53, Route53Config};
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
