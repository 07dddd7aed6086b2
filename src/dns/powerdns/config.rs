//! `[provider]` with `kind = "powerdns"`, and the flags of `cutover init` for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Policy;
use crate::dns::SecretSource;
use crate::dns::legacy_duration::or_seconds;
use crate::dns::providers::InitArgs;
use crate::dns::toml_draft::TomlDraft;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerDnsConfig {
    /// Base address of the API: `http://127.0.0.1:8081`.
    pub url: String,
    /// The server's id in the API.
    #[serde(default = "default_server")]
    pub server: String,
    /// Value of the `X-API-Key` header.
    pub api_key: SecretSource,
    /// Certificate authorities for an `https` address, instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub policy: Policy,
    /// `query-cache-ttl` (20 s by default) of other servers on the same database; 0 for a single server.
    #[serde(default, alias = "replica_cache_seconds", deserialize_with = "or_seconds")]
    pub replica_cache_ttl: Duration,
    /// Declares that the zone's metadata has `ENABLE-LUA-RECORDS`, which the API does not show. Not needed if
    /// `enable-lua-records` is on for the whole server.
    #[serde(default)]
    pub lua_records_enabled: bool,
}

fn default_server() -> String {
    "localhost".to_owned()
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
        table.example("policy = \"hashed\"", "a resolver always gets the same side; default: random");
        table.example("replica_cache_ttl = \"20s\"", "query-cache-ttl of other servers on the same database");
        self.url.is_none().then_some("--url")
    }
}
