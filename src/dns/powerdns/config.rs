//! `[provider]` with `kind = "powerdns"`, and the flags of `cutover init` for it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Policy, PowerDns, manual_rollback};
use crate::dns::providers::{InitArgs, ProviderTable};
use crate::dns::toml_draft::TomlDraft;
use crate::dns::{DnsProvider, DnsResult, SecretSource, Target, http_api};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerDnsConfig {
    /// Base address of the API: `http://127.0.0.1:8081`.
    pub url: String,
    /// The server's id in the API.
    #[serde(default = "localhost")]
    pub server: String,
    /// Value of the `X-API-Key` header.
    pub api_key: SecretSource,
    /// Certificate authorities for an `https` address, if not the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub policy: Policy,
    /// How long other servers on the same database may answer from their query cache, in seconds: their
    /// `query-cache-ttl`, 20 unless set otherwise. 0 for a single server.
    #[serde(default)]
    pub replica_cache_seconds: u32,
    /// Declares that the zone's metadata has `ENABLE-LUA-RECORDS`, which the API does not show. Not needed where
    /// `enable-lua-records` is on for the whole server.
    #[serde(default)]
    pub lua_records_enabled: bool,
}

fn localhost() -> String {
    "localhost".to_owned()
}

#[async_trait]
impl ProviderTable for PowerDnsConfig {
    type InitArgs = PowerDnsArgs;

    fn check(&self) -> Result<()> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if self.server.is_empty() || !self.server.chars().all(is_plain) {
            return Err(Error::usage("provider.server in cutover.toml must be an id such as localhost"));
        }
        http_api::check_base("url", &self.url)
    }

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(PowerDns::new(self)?))
    }

    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        manual_rollback(self, target, ttl)
    }
}

#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PowerDnsArgs {
    /// Base address of the API, http://127.0.0.1:8081
    #[arg(long, value_name = "URL", help_heading = "PowerDNS")]
    url: Option<String>,

    /// Environment variable with the API key [default: PDNS_API_KEY]
    #[arg(long, value_name = "NAME", help_heading = "PowerDNS", conflicts_with = "api_key_file")]
    api_key_env: Option<String>,

    /// File with the API key
    #[arg(long, value_name = "FILE", help_heading = "PowerDNS")]
    api_key_file: Option<PathBuf>,

    /// Certificate authorities for an https address
    #[arg(long, value_name = "FILE", help_heading = "PowerDNS")]
    ca_file: Option<PathBuf>,
}

impl InitArgs for PowerDnsArgs {
    fn write(&self, table: &mut TomlDraft) -> Option<&'static str> {
        table.text("url", self.url.as_deref().unwrap_or("http://127.0.0.1:8081"));
        table.secret("api_key", self.api_key_env.as_deref(), self.api_key_file.as_deref(), "PDNS_API_KEY");
        table.path("ca_file", self.ca_file.as_deref());
        table.example("policy = \"hashed\"", "one resolver always gets the same side; default: random");
        table.example("replica_cache_seconds = 20", "query-cache-ttl of other servers on the same database");
        self.url.is_none().then_some("--url")
    }
}
