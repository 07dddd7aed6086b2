//! `[provider]` with `kind = "exec"`, and the flags of `cutover init` for it.

use std::sync::Arc;

use async_trait::async_trait;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{Exec, manual_rollback};
use crate::dns::providers::{InitArgs, ProviderTable};
use crate::dns::toml_draft::{TomlDraft, list};
use crate::dns::{DnsProvider, DnsResult, Target};
use crate::error::Result;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments. Every user of the machine can read arguments: no credentials in them.
    pub command: Vec<String>,
    /// How long one call may take.
    #[serde(default = "thirty_seconds")]
    pub timeout_seconds: u64,
    /// Environment variables that the program gets, such as those with its credentials.
    #[serde(default)]
    pub pass_env: Vec<String>,
}

fn thirty_seconds() -> u64 {
    30
}

#[async_trait]
impl ProviderTable for ExecConfig {
    type InitArgs = ExecArgs;

    fn check(&self) -> Result<()> {
        Ok(())
    }

    async fn connect(self) -> Result<Arc<dyn DnsProvider>> {
        Ok(Arc::new(Exec::new(self).await?))
    }

    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
        manual_rollback(self, target, ttl)
    }
}

#[derive(Debug, Clone, Default, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExecArgs {
    /// Program that reads and writes JSON
    #[arg(long, value_name = "PROGRAM", help_heading = "exec")]
    command: Option<String>,

    /// Argument of the program, without secrets (repeatable)
    #[arg(long, value_name = "TEXT", help_heading = "exec", allow_hyphen_values = true)]
    argument: Vec<String>,

    /// Environment variable for the program (repeatable)
    #[arg(long, value_name = "NAME", help_heading = "exec")]
    pass_env: Vec<String>,
}

impl InitArgs for ExecArgs {
    fn write(&self, table: &mut TomlDraft) -> Option<&'static str> {
        let program = self.command.as_deref().unwrap_or("./my-dns");
        let command = list(std::iter::once(program).chain(self.argument.iter().map(String::as_str)));
        table.value("command", &format!("{command}   # JSON in, JSON out: docs/dns-providers.md"));
        table.example("timeout_seconds = 30", "");
        if self.pass_env.is_empty() {
            table.example("pass_env = [\"MY_DNS_TOKEN\"]", "");
        } else {
            table.value("pass_env", &list(self.pass_env.iter().map(String::as_str)));
        }
        self.command.is_none().then_some("--command")
    }
}
