//! The `[provider]` section of `cutover.toml`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::DnsProvider;
use crate::error::{Error, Result};

/// Which provider, and what it needs. `kind` decides which keys there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ProviderConfig {}

/// Reads the credentials and makes the provider. Only `exec` is asked something on the way: what it can do.
pub async fn connect(_config: &ProviderConfig) -> Result<Arc<dyn DnsProvider>> {
    Err(Error::usage("no provider"))
}
