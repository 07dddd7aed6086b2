//! Who is asked what stands there now: the provider, and where that cannot be, the name servers.

use super::section::Section;
use crate::dns::query::{self, QueryConfig};
use crate::dns::{
    self, Capabilities, DomainName, ListedRecord, Listing, ProviderConfig, Record, RecordType, Target,
};
use crate::error::{Error, Result};
use crate::finding::{Finding, Severity};

/// What was found out.
pub(super) struct Asked {
    /// The zone.
    pub zone: DomainName,
    /// What stands under the names.
    pub records: Vec<ListedRecord>,
    /// What the provider can do, as far as that is known without it.
    pub caps: Option<Capabilities>,
    /// Why the provider could not be asked.
    pub silent: Option<String>,
    /// The name server that was asked in its stead, or why that was not possible either.
    pub instead: Option<std::result::Result<String, String>>,
    /// What the provider has to say about a cutover.
    pub findings: Vec<Finding>,
}

impl Asked {
    /// Asks the provider, or else the name servers.
    pub(super) async fn of(
        section: &Section,
        zone: Option<&DomainName>,
        names: &[DomainName],
        servers: &[String],
    ) -> Result<Asked> {
        let config = section.config()?;
        let (silent, caps) = match section.missing {
            Some(flag) => (format!("{flag} was not given"), None),
            None => match at_provider(&config, zone, names).await {
                Ok(asked) => return Ok(asked),
                Err((why, caps)) => (why, caps),
            },
        };
        let guessed = match (zone, names.first().and_then(DomainName::parent)) {
            (Some(zone), _) => zone.clone(),
            (None, Some(parent)) => parent,
            (None, None) => return Err(Error::usage("the zone is not clear").remedy("Give --zone.")),
        };
        let (records, instead) = at_name_servers(&guessed, names, servers).await;
        let findings = Vec::new();
        Ok(Asked { zone: guessed, records, caps, silent: Some(silent), instead: Some(instead), findings })
    }
}

/// The error has what the provider can do, where that is known without an answer.
async fn at_provider(
    config: &ProviderConfig,
    zone: Option<&DomainName>,
    names: &[DomainName],
) -> std::result::Result<Asked, (String, Option<Capabilities>)> {
    let provider = dns::connect(config).await.map_err(|e| (e.one_line(), None))?;
    let caps = provider.capabilities().clone();
    let listed = provider.list(zone, names).await;
    let Listing { zone, records } = listed.map_err(|e| (Error::from(e).one_line(), Some(caps.clone())))?;
    let findings = match stand_in(&zone, &records) {
        Some(target) => provider.preflight(&target).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let findings = findings.into_iter().filter(|one| one.severity > Severity::Ok).collect();
    let mut records = records;
    // As people expect them, whatever order the provider likes.
    records.sort_by(|one, two| (&one.name, &one.rtype).cmp(&(&two.name, &two.rtype)));
    Ok(Asked { zone, records, caps: Some(caps), silent: None, instead: None, findings })
}

/// The records with some other values as green's: enough for the provider to say what stands in the way of them.
fn stand_in(zone: &DomainName, records: &[ListedRecord]) -> Option<Target> {
    let with_green = |one: &ListedRecord| {
        let rtype = one.movable()?;
        let green = match rtype {
            RecordType::A => "203.0.113.254",
            RecordType::Aaaa => "2001:db8:ffff::fe",
            RecordType::Cname => "green.invalid",
        };
        Record::new(one.name.clone(), rtype, &one.values, &[green.to_owned()]).ok()
    };
    Target::new(zone.clone(), records.iter().filter_map(with_green).collect()).ok()
}

async fn at_name_servers(
    zone: &DomainName,
    names: &[DomainName],
    servers: &[String],
) -> (Vec<ListedRecord>, std::result::Result<String, String>) {
    let config = QueryConfig { name_servers: servers.to_vec(), ..QueryConfig::default() };
    let server = match query::name_servers(zone, &config).await {
        Ok(found) => found.into_iter().next(),
        Err(error) => return (Vec::new(), Err(error.one_line())),
    };
    let Some(server) = server else { return (Vec::new(), Err(format!("{zone} has no name server"))) };
    let mut records = Vec::new();
    for name in names {
        match query::siblings(&server, name, &config).await {
            Ok(found) => records.extend(found.into_iter().map(|one| ListedRecord {
                name: name.clone(),
                rtype: one.rtype,
                ttl: one.ttl,
                values: one.text.split(", ").map(|text| text.trim_end_matches('.').to_owned()).collect(),
                obstacle: None,
            })),
            Err(why) => return (records, Err(why)),
        }
    }
    (records, Ok(server.to_string()))
}
