//! The kinds of DNS provider: the traits of a provider's configuration, and the enums generated from the list.
//!
//! A provider is registered by one line of `providers!` in `dns/mod.rs`. `kind` in `cutover.toml`, `--provider` and the
//! flags of `cutover init`, and every dispatch to a provider's own code follow from that line.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use super::toml_draft::TomlDraft;
use super::{DnsProvider, DnsResult, Target};
use crate::error::Result;

/// The `[provider]` table of one kind.
#[async_trait]
pub(crate) trait ProviderTable: Sized {
    /// The flags of `cutover init`.
    type InitArgs: InitArgs;

    /// Checks what needs neither a secret nor a connection: addresses, which must not contain credentials.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Reads the credentials.
    async fn connect(self) -> Result<Arc<dyn DnsProvider>>;

    /// Shell commands that overwrite the records with blue's values, from the configuration alone: for an operator
    /// whose kongferry cannot read the records. They keep the marker where the provider allows it, so that `status`
    /// and `finish` know the original TTLs.
    fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String>;
}

/// The flags of `cutover init` for one kind of provider. Serialized field names are the flags' names.
pub(crate) trait InitArgs: clap::Args + Clone + Default + Serialize {
    /// Writes the keys after `kind`, with an example value for each absent flag. Returns the flag that is required to
    /// reach the provider, if it is absent.
    fn write(&self, table: &mut TomlDraft) -> Option<&'static str>;

    /// The first flag that is present, as `--flag`.
    fn first_present(&self) -> Option<String> {
        let fields = serde_json::to_value(self).ok()?;
        let is_present = |value: &serde_json::Value| match value {
            serde_json::Value::Null => false,
            serde_json::Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        fields.as_object()?.iter().find(|(_, value)| is_present(value)).map(|(name, _)| format!("--{name}"))
    }
}

/// A `[provider]` table as `cutover init` writes it.
#[derive(Debug)]
pub struct ProviderSection {
    /// With the header and comments.
    pub text: String,
    /// The flag that is required to reach the provider, if it is absent.
    pub missing_flag: Option<&'static str>,
}

macro_rules! providers {
    ($($variant:ident($module:ident::$config:ident),)+) => {
        /// `kind` in `cutover.toml` and `--provider` of `cutover init`: the variants in lower case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
        #[value(rename_all = "lower")]
        pub enum ProviderKind { $($variant),+ }

        /// The `[provider]` section of `cutover.toml`.
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        pub enum ProviderConfig { $($variant($module::$config)),+ }

        impl ProviderConfig {
            pub fn kind(&self) -> ProviderKind {
                match self { $(ProviderConfig::$variant(_) => ProviderKind::$variant),+ }
            }

            /// Reads no secret and connects to nothing.
            pub fn check(&self) -> Result<()> {
                match self { $(ProviderConfig::$variant(config) => ProviderTable::check(config)),+ }
            }

            /// Reads the credentials; `exec` also runs its program, for its capabilities.
            pub async fn connect(&self) -> Result<std::sync::Arc<dyn DnsProvider>> {
                match self.clone() { $(ProviderConfig::$variant(config) => ProviderTable::connect(config).await),+ }
            }

            /// Shell commands that send all traffic to blue, from the configuration alone.
            pub fn manual_rollback(&self, target: &Target, ttl: u32) -> DnsResult<String> {
                match self {
                    $(ProviderConfig::$variant(config) => ProviderTable::manual_rollback(config, target, ttl)),+
                }
            }
        }

        /// The flags of `cutover init` about the provider and its credentials.
        #[derive(Debug, Clone, clap::Args)]
        pub struct ProviderArgs {
            /// Kind of DNS provider
            #[arg(long, value_name = "KIND", value_enum, default_value = "powerdns", help_heading = "Records")]
            pub provider: ProviderKind,

            $(
                #[command(flatten)]
                $module: Option<<$module::$config as ProviderTable>::InitArgs>,
            )+
        }

        impl ProviderArgs {
            /// The keys of the `[provider]` table.
            fn write(&self, table: &mut TomlDraft) -> Option<&'static str> {
                match self.provider {
                    $(ProviderKind::$variant => self.$module.clone().unwrap_or_default().write(table)),+
                }
            }

            /// A flag of a provider other than `--provider`.
            fn foreign_flag(&self) -> Option<(String, ProviderKind)> {
                $(
                    if self.provider != ProviderKind::$variant
                        && let Some(flag) = self.$module.as_ref().and_then(InitArgs::first_present)
                    {
                        return Some((flag, ProviderKind::$variant));
                    }
                )+
                None
            }
        }
    };
}
pub(super) use providers;

#[cfg(test)]
mod tests {
    use clap::ValueEnum;
    use serde::Deserialize;

    use crate::dns::{ProviderConfig, ProviderKind};

    const DOCS: &str = include_str!("../../docs/dns-providers.md");

    #[derive(Deserialize)]
    struct Example {
        provider: ProviderConfig,
    }

    /// The indented blocks that start with `[provider]`.
    fn examples() -> Vec<Vec<&'static str>> {
        let blocks = DOCS.split("\n    [provider]\n").skip(1);
        let lines = blocks.map(|block| {
            block.lines().take_while(|line| line.is_empty() || line.starts_with("    ")).map(str::trim)
        });
        lines.map(|lines| std::iter::once("[provider]").chain(lines).collect()).collect()
    }

    fn parse(lines: &[&str]) -> ProviderConfig {
        let text = lines.join("\n");
        let example: Example = toml::from_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        example.provider.check().unwrap();
        example.provider
    }

    #[test]
    fn every_kind_has_an_example_in_the_docs_whose_every_key_parses() {
        let kinds: Vec<ProviderKind> = examples()
            .iter()
            .map(|lines| {
                let all_keys: Vec<&str> = lines.iter().map(|line| line.trim_start_matches("# ")).collect();
                parse(&all_keys);
                parse(lines).kind()
            })
            .collect();
        for kind in ProviderKind::value_variants() {
            let count = kinds.iter().filter(|found| *found == kind).count();
            assert_eq!(count, 1, "docs/dns-providers.md must have one example of {}", kind.name());
            assert!(DOCS.contains(&format!("| `{}` |", kind.name())), "{} is not in the table", kind.name());
        }
    }

    #[test]
    fn a_kind_has_the_same_name_in_the_file_and_as_a_flag() {
        for lines in examples() {
            let kind = format!("kind = \"{}\"", parse(&lines).kind().name());
            assert!(lines.contains(&&*kind), "{kind}");
        }
    }
}
