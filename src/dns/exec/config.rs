//! `[provider]` with `kind = "exec"`, and the flags of `cutover init` for it.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::dns::legacy_duration::or_seconds;
use crate::dns::providers::InitArgs;
use crate::dns::toml_draft::{TomlDraft, list};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecConfig {
    /// The program and its arguments, which every user of the machine can read: they must not contain credentials.
    pub command: Vec<String>,
    /// Of one call.
    #[serde(default = "default_timeout", alias = "timeout_seconds", deserialize_with = "or_seconds")]
    pub timeout: Duration,
    /// Environment variables that are passed to the program, such as those with its credentials.
    #[serde(default)]
    pub pass_env: Vec<String>,
}

fn default_timeout() -> Duration {
    Duration::from_secs(30)
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
        table.example("timeout = \"30s\"", "");
        if self.pass_env.is_empty() {
            table.example("pass_env = [\"MY_DNS_TOKEN\"]", "");
        } else {
            table.value("pass_env", &list(self.pass_env.iter().map(String::as_str)));
        }
        self.command.is_none().then_some("--command")
    }
}
