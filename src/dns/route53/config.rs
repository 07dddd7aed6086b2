//! `[provider]` with `kind = "route53"`, and the flags of `cutover init` for it.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::dns::SecretSource;
use crate::dns::providers::InitArgs;
use crate::dns::toml_draft::TomlDraft;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route53Config {
    /// `Z2ABCDEFGHIJKL`, optionally after `/hostedzone/`.
    pub hosted_zone_id: String,
    #[serde(default = "default_key_id")]
    pub access_key_id: SecretSource,
    #[serde(default = "default_key")]
    pub secret_access_key: SecretSource,
    /// Of temporary credentials. By default `AWS_SESSION_TOKEN`, if the access key id is an environment variable too.
    #[serde(default)]
    pub session_token: Option<SecretSource>,
    /// Of the signature; differs between AWS partitions.
    #[serde(default = "default_region")]
    pub region: String,
    /// Base address of the API; differs between AWS partitions.
    #[serde(default = "default_endpoint")]
    pub endpoint: String,
}

fn default_key_id() -> SecretSource {
    SecretSource::Env("AWS_ACCESS_KEY_ID".to_owned())
}

fn default_key() -> SecretSource {
    SecretSource::Env("AWS_SECRET_ACCESS_KEY".to_owned())
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

pub(super) fn default_endpoint() -> String {
    "https://route53.amazonaws.com".to_owned()
}

#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Route53Args {
    /// Id of the hosted zone, Z2ABCDEFGHIJKL
    #[arg(long, value_name = "ID", help_heading = "Route 53")]
    hosted_zone_id: Option<String>,

    /// Environment variable with the access key id [default: AWS_ACCESS_KEY_ID]
    #[arg(long, value_name = "NAME", help_heading = "Route 53", conflicts_with = "access_key_id_file")]
    access_key_id_env: Option<String>,

    /// File with the access key id
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    access_key_id_file: Option<PathBuf>,

    /// Environment variable with the secret key [default: AWS_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "NAME", help_heading = "Route 53", conflicts_with = "secret_access_key_file")]
    secret_access_key_env: Option<String>,

    /// File with the secret access key
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    secret_access_key_file: Option<PathBuf>,

    /// File with the session token of temporary credentials
    #[arg(long, value_name = "FILE", help_heading = "Route 53")]
    session_token_file: Option<PathBuf>,

    /// Base address of the API in other AWS partitions
    #[arg(long, value_name = "URL", help_heading = "Route 53")]
    endpoint: Option<String>,

    /// Region of the signature in other AWS partitions
    #[arg(long, value_name = "NAME", help_heading = "Route 53")]
    region: Option<String>,
}

impl InitArgs for Route53Args {
    fn write(&self, table: &mut TomlDraft) -> Option<&'static str> {
        table.text("hosted_zone_id", self.hosted_zone_id.as_deref().unwrap_or("Z2ABCDEFGHIJKL"));
        let (env, file) = (self.access_key_id_env.as_deref(), self.access_key_id_file.as_deref());
        table.secret("access_key_id", env, file, "AWS_ACCESS_KEY_ID");
        let (env, file) = (self.secret_access_key_env.as_deref(), self.secret_access_key_file.as_deref());
        table.secret("secret_access_key", env, file, "AWS_SECRET_ACCESS_KEY");
        if self.session_token_file.is_some() {
            table.secret("session_token", None, self.session_token_file.as_deref(), "");
        }
        for (name, value) in [("endpoint", &self.endpoint), ("region", &self.region)] {
            if let Some(value) = value {
                table.text(name, value);
            }
        }
        self.hosted_zone_id.is_none().then_some("--hosted-zone-id")
    }
}
