//! Reads the current records: from the provider, or from a name server if the provider cannot be reached.

use crate::dns::query::{self, QueryConfig};
use crate::dns::{
    Capabilities, DomainName, ListedRecord, Listing, ProviderConfig, ProviderSection, Record, RecordType,
    Target,
};
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};

/// The current records, and where they were read.
pub(super) struct CurrentRecords {
    pub zone: DomainName,
    pub records: Vec<ListedRecord>,
    /// `None` if they are only known from a connection.
    pub capabilities: Option<Capabilities>,
    /// Why the records were not read from the provider.
    pub provider_error: Option<String>,
    /// The name server that was queried instead, or why none answered.
    pub name_server: Option<std::result::Result<String, String>>,
    /// Warnings and blockers of the provider's preflight.
    pub findings: Vec<Finding>,
}

impl CurrentRecords {
    pub(super) async fn read(
        section: &ProviderSection,
        zone: Option<&DomainName>,
        names: &[DomainName],
        servers: &[String],
    ) -> Result<CurrentRecords> {
        let config = section.config()?;
        let (provider_error, capabilities) = match section.missing_flag {
            Some(flag) => (format!("{flag} was not given"), None),
            None => match read_from_provider(&config, zone, names).await {
                Ok(current) => return Ok(current),
                Err(failed) => failed,
            },
        };
        let zone = match (zone, names.first().and_then(DomainName::parent)) {
            (Some(zone), _) => zone.clone(),
            (None, Some(parent)) => parent,
            (None, None) => {
                return Err(Error::usage("the zone cannot be derived from the name").remedy("Pass --zone."));
            }
        };
        let (records, name_server) = read_from_name_server(&zone, names, servers).await;
        Ok(CurrentRecords {
            zone,
            records,
            capabilities,
            provider_error: Some(provider_error),
            name_server: Some(name_server),
            findings: Vec::new(),
        })
    }

    /// `provider`, `name_server` or `none`.
    pub(super) fn source(&self) -> &'static str {
        match (&self.provider_error, &self.name_server) {
            (None, _) => "provider",
            (Some(_), Some(Ok(_))) => "name_server",
            (Some(_), _) => "none",
        }
    }
}

/// An error comes with the provider's capabilities if they are known without a connection.
async fn read_from_provider(
    config: &ProviderConfig,
    zone: Option<&DomainName>,
    names: &[DomainName],
) -> std::result::Result<CurrentRecords, (String, Option<Capabilities>)> {
    let provider = config.connect().await.map_err(|e| (e.one_line(), None))?;
    let capabilities = provider.capabilities().clone();
    let listing = provider.list(zone, names).await;
    let Listing { zone, mut records } =
        listing.map_err(|e| (Error::from(e).one_line(), Some(capabilities.clone())))?;
    let mut findings = match preflight_target(&zone, &records) {
        Some(target) => provider.preflight(&target).await.unwrap_or_default(),
        None => Vec::new(),
    };
    findings.retain(|finding| finding.severity > Severity::Ok);
    records.sort_by(|a, b| (&a.name, &a.rtype).cmp(&(&b.name, &b.rtype)));
    Ok(CurrentRecords {
        zone,
        records,
        capabilities: Some(capabilities),
        provider_error: None,
        name_server: None,
        findings,
    })
}

/// The records with placeholder values for green: enough for the provider's preflight.
fn preflight_target(zone: &DomainName, records: &[ListedRecord]) -> Option<Target> {
    let with_green = |listed: &ListedRecord| {
        let rtype = listed.movable()?;
        let green = match rtype {
            RecordType::A => "203.0.113.254",
            RecordType::Aaaa => "2001:db8:ffff::fe",
            RecordType::Cname => "green.invalid",
        };
        Record::new(listed.name.clone(), rtype, &listed.values, &[green.to_owned()]).ok()
    };
    Target::new(zone.clone(), records.iter().filter_map(with_green).collect()).ok()
}

async fn read_from_name_server(
    zone: &DomainName,
    names: &[DomainName],
    servers: &[String],
) -> (Vec<ListedRecord>, std::result::Result<String, String>) {
    let config = QueryConfig { name_servers: servers.to_vec(), ..QueryConfig::default() };
    let server = match query::name_servers(zone, &config).await {
        Ok(servers) => servers.into_iter().next(),
        Err(error) => return (Vec::new(), Err(error.one_line())),
    };
    let Some(server) = server else { return (Vec::new(), Err(format!("{zone} has no name server"))) };
    let mut records = Vec::new();
    for name in names {
        match query::siblings(&server, name, &config).await {
            Ok(found) => records.extend(found.into_iter().map(|record| ListedRecord {
                name: name.clone(),
                rtype: record.rtype,
                ttl: record.ttl,
                values: record.text.split(", ").map(|text| text.trim_end_matches('.').to_owned()).collect(),
                obstacle: None,
            })),
            Err(failure) => return (records, Err(failure)),
        }
    }
    (records, Ok(server.to_string()))
}
