//! Shifts new resolutions between blue and green: one trait, one folder per DNS provider.
//!
//! A provider reads the records of a [`Target`], plans a [`Change`] without a request, sends it as one atomic write, and
//! confirms its propagation. Steps, bake times and gates are in [`cutover`](crate::cutover). [`query`] asks name servers
//! what they answer, in the same way for all providers.
//!
//! The order of calls: [`read`](DnsProvider::read) → [`plan`](DnsProvider::plan) → journal the [`Change`] →
//! [`apply`](DnsProvider::apply) → [`confirm`](DnsProvider::confirm) until [`Propagation::InSync`] → query. When `apply`
//! fails with [`may_be_applied`](DnsError::may_be_applied), or the process ends in between: `read` and ask
//! [`Change::outcome`].

mod capabilities;
mod change;
mod error;
mod exclusion;
pub mod exec;
mod http_api;
mod legacy_duration;
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
    /// The `[provider]` table, with an example value for each absent flag.
    pub fn section(&self) -> Result<ProviderSection> {
        let kind = self.provider.name();
        if let Some((flag, owner)) = self.foreign_flag() {
            let owner = owner.name();
            return Err(Error::usage(format!("{flag} belongs to {owner}, but the provider is {kind}"))
                .remedy(format!("Add --provider {owner}, or omit {flag}.")));
        }
        let mut table = TomlDraft::new("[provider]");
        table.text("kind", &kind);
        let missing_flag = self.write(&mut table);
        Ok(ProviderSection { text: table.into_text(), missing_flag })
    }
}

impl ProviderSection {
    /// Parses the table as `cutover plan` does.
    pub fn config(&self) -> Result<ProviderConfig> {
        let table = self.text.trim_start().strip_prefix("[provider]\n").unwrap_or(&self.text);
        let config: ProviderConfig = toml::from_str(table).map_err(|e| {
            Error::usage(format!("[provider]: {}", e.message().trim().replace('\n', " ")))
                .remedy("Correct the flags; --help lists those of each provider.")
        })?;
        // Before the file is written: it must not contain a password as part of an address.
        config.check()?;
        Ok(config)
    }
}

/// An accepted write, to be confirmed. Can be journaled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The provider's id of the change, if it has one.
    pub change_id: Option<String>,
}

/// Whether an accepted write has reached the name servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Propagation {
    Pending,
    /// All of the provider's name servers have it.
    InSync,
}

/// A DNS service whose records a cutover changes.
///
/// `docs/dns-providers.md` says how Cloudflare, Google, Azure and NS1 fit. A balancer that never becomes an ordinary
/// record reads as [`RecordState::Plain`] if one side has all weight and there is no marker. A provider with one write
/// per record refuses targets of several in [`plan`](Self::plan). One that cannot overwrite what it has not read
/// returns a `Conflict` for [`Precondition::Overwrite`]; the engine then reads and plans again.
///
/// Credentials are in secrecy types; no returned error, request or command contains one. If the future of
/// [`apply`](Self::apply) is dropped, the write may or may not have been carried out.
#[async_trait]
pub trait DnsProvider: Send + Sync + std::fmt::Debug {
    /// The name in `cutover.toml`: `powerdns`, `rfc2136`, `route53`, `exec`.
    fn name(&self) -> &'static str;

    /// As it is configured.
    fn capabilities(&self) -> &Capabilities;

    /// What prevents a cutover of this target, as far as the provider shows it without a write.
    async fn preflight(&self, target: &Target) -> DnsResult<Vec<Finding>>;

    /// The records of these names, for a draft of `cutover.toml`. Without `zone`, the provider finds it.
    async fn list(&self, zone: Option<&DomainName>, names: &[DomainName]) -> DnsResult<Listing> {
        let _ = (zone, names);
        Err(DnsError::new(self.name(), DnsErrorKind::Unsupported, "the provider cannot list records"))
    }

    /// Reads all records of the target and the marker. Must see its own earlier writes.
    async fn read(&self, target: &Target) -> DnsResult<Observed>;

    /// Plans the one write that leads from `before` to `desired`, without a request.
    ///
    /// Returns `Unsupported` for what the provider cannot do, `Conflict` for foreign records.
    fn plan(&self, target: &Target, before: &Observed, desired: &Desired) -> DnsResult<Change>;

    /// Writes all records and the marker, all or nothing. Must be idempotent.
    ///
    /// With [`Precondition::Unchanged`] a write by another client since `change.before` is a `Conflict`, and so is an
    /// accepted write after which the records differ from `change.after`.
    async fn apply(&self, change: &Change) -> DnsResult<Ticket>;

    /// Whether the write has reached the provider's name servers. The default is for [`Confirmation::Immediate`].
    async fn confirm(&self, _ticket: &Ticket) -> DnsResult<Propagation> {
        Ok(Propagation::InSync)
    }

    /// Shell commands that make the change without kongferry; credentials are variables.
    fn manual_command(&self, change: &Change) -> String;
}
