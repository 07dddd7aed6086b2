//! Moving new resolutions between blue and green: one trait, one file per DNS provider.
//!
//! A provider knows how to read the records of a [`Target`], to plan a [`Change`] without sending anything, to send it
//! as one atomic write, and to say when it has arrived. It knows nothing of steps, bake times and gates; those are
//! [`cutover`](crate)'s. Whether name servers really answer what was written is asked of them directly, by [`query`],
//! which is the same for all providers.
//!
//! The order of calls: [`read`](DnsProvider::read) → [`plan`](DnsProvider::plan) → journal the [`Change`] →
//! [`apply`](DnsProvider::apply) → [`confirm`](DnsProvider::confirm) until [`Propagation::InSync`] → query. When `apply`
//! fails with [`may_be_applied`](DnsError::may_be_applied), or the process died in between: `read`, and ask
//! [`Change::outcome`].

mod capabilities;
mod change;
mod error;
pub mod exec;
mod http_api;
mod listing;
mod marker;
mod name;
pub mod powerdns;
mod providers;
pub mod query;
pub mod rfc2136;
pub mod route53;
mod secret;
mod share;
mod shell;
mod state;
mod target;
pub(crate) mod toml_draft;
mod update;
mod wire;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::finding::Finding;
use toml_draft::TomlDraft;

pub use capabilities::{Capabilities, Confirmation, Exclusion, Weights};
pub use change::{Change, Request, WriteOutcome};
pub use error::{DnsError, DnsErrorKind, DnsResult};
pub use listing::{ListedRecord, Listing};
pub use marker::{Marker, OriginalTtl};
pub use name::DomainName;
pub use providers::ProviderSection;
pub(crate) use providers::{InitArgs, ProviderTable};
pub use secret::SecretSource;
pub use share::Share;
pub use state::{
    Desired, Observed, ObservedRecord, Precondition, RecordForm, RecordState, SiblingRecord, Ttl, Version,
};
pub use target::{Alias, Record, RecordKey, RecordType, Side, Target, Value};

providers::providers! {
    PowerDns(powerdns::PowerDnsConfig),
    Rfc2136(rfc2136::Rfc2136Config),
    Route53(route53::Route53Config),
    Exec(exec::ExecConfig),
}

impl ProviderKind {
    /// The name in `cutover.toml`.
    pub fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

impl ProviderArgs {
    /// The `[provider]` table. A value that was not given is an example.
    pub fn section(&self) -> Result<ProviderSection> {
        let kind = self.provider.name();
        if let Some((flag, owner)) = self.foreign_flag() {
            let owner = owner.name();
            return Err(Error::usage(format!("{flag} belongs to {owner}, and the provider is {kind}"))
                .remedy(format!("Add --provider {owner}, or omit {flag}.")));
        }
        let mut table = TomlDraft::new("[provider]");
        table.text("kind", &kind);
        let missing_flag = self.write(&mut table);
        Ok(ProviderSection { text: table.into_text(), missing_flag })
    }
}

impl ProviderSection {
    /// The table, parsed as `plan` will parse it.
    pub fn config(&self) -> Result<ProviderConfig> {
        let table = self.text.trim_start().strip_prefix("[provider]\n").unwrap_or(&self.text);
        let config: ProviderConfig = toml::from_str(table).map_err(|e| {
            Error::usage(format!("the provider: {}", e.message().trim().replace('\n', " ")))
                .remedy("Correct the flags; --help lists those of each provider.")
        })?;
        // Before the file is written: a password in an address must not be in it.
        config.check()?;
        Ok(config)
    }
}

/// What is needed to follow a write that was accepted. Can be journaled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The provider's id of the change, where it has one.
    pub change_id: Option<String>,
}

/// How far an accepted write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    /// Not all of the provider's name servers have it.
    Pending,
    /// The provider says that they have.
    InSync,
}

/// A place where records can be changed.
///
/// How Cloudflare, Google, Azure and NS1 fit is written down in `docs/dns-providers.md`: a balancer that never becomes an
/// ordinary record reads as [`RecordState::Plain`] where one side has everything and no marker stands there; one that
/// has a write for each record refuses targets of several in [`plan`](Self::plan); one that cannot overwrite what it
/// does not know answers [`Precondition::Overwrite`] with a `Conflict`, and is read and asked again.
///
/// Implementations hold their credentials in secrecy types; no error, request or command that they return shows one.
/// Dropping the future of [`apply`](Self::apply) leaves it open whether the write was carried out.
#[async_trait]
pub trait DnsProvider: Send + Sync + std::fmt::Debug {
    /// The name in `cutover.toml`: `powerdns`, `rfc2136`, `route53`, `exec`.
    fn name(&self) -> &'static str;

    /// What it can do as it is configured.
    fn capabilities(&self) -> &Capabilities;

    /// What stands in the way of a cutover of this target, as far as the provider can tell without a write.
    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>>;

    /// What stands under these names, for the first draft of a `cutover.toml`. `zone` is looked for where it is not
    /// given. Not every provider can say.
    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let _ = (zone, names);
        Err(DnsError::new(self.name(), DnsErrorKind::Unsupported, "it cannot list records"))
    }

    /// Reads all records of the target and the marker. Sees its own earlier writes.
    async fn read(&self, target: &Target) -> DnsResult<Observed>;

    /// Works out the one write that leads from `before` to `desired`. Sends nothing and asks nothing.
    ///
    /// Refuses with `Unsupported` what this provider cannot do, with `Conflict` what is not ours to overwrite.
    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change>;

    /// Sends the change: all records and the marker, all or nothing. Sending it twice does no harm.
    ///
    /// With [`Precondition::Unchanged`] a write by another client since `change.before` is a `Conflict`, and so is an
    /// accepted write after which something else is read.
    async fn apply(&self, change: &Change) -> DnsResult<Ticket>;

    /// Whether the write has arrived at all of the provider's name servers. Providers that confirm at once say so.
    async fn confirm(&self, ticket: &Ticket) -> DnsResult<Propagation>;

    /// How a person does the same without kongferry: commands for a shell, credentials as variables.
    fn manual_command(&self, change: &Change) -> String;
}
