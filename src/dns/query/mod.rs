//! Queries to authoritative name servers: the share is measured from many answers of each one.
//!
//! A write that the provider accepted proves little: PowerDNS accepts Lua that makes every answer SERVFAIL, a secondary
//! lags, a replica caches.

mod measure;
mod measurement;
mod name_servers;

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType as WireType;
use serde::Deserialize;

use super::legacy_duration::or_milliseconds;
use super::wire::{self, ServerClient};
use super::{DomainName, SiblingRecord};
pub use measure::measure;
pub use measurement::{AnswerFault, FaultyAnswers, ShareMeasurement, ShareVerdict};
pub use name_servers::{NameServer, name_servers};

/// The `[query]` section of `cutover.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueryConfig {
    /// `ns1.example.com`, `192.0.2.53` or `127.0.0.1:5353`. If empty, the name servers of the zone's NS records, by the
    /// system's resolver.
    pub name_servers: Vec<String>,
    /// Of queries to each server for each record.
    pub count: u32,
    /// Of one query.
    #[serde(alias = "timeout_ms", deserialize_with = "or_milliseconds")]
    pub timeout: Duration,
    /// Source addresses of the queries, in turn: for policies by which an address always gets the same answer.
    pub sources: Vec<IpAddr>,
}

impl Default for QueryConfig {
    fn default() -> Self {
        QueryConfig {
            name_servers: Vec::new(),
            count: 2000,
            timeout: Duration::from_secs(2),
            sources: Vec::new(),
        }
    }
}

/// The zone's serial on each server, or the reason why it is unknown.
pub async fn serials(
    servers: &[NameServer],
    zone: &DomainName,
    config: &QueryConfig,
) -> Vec<(NameServer, Result<u32, String>)> {
    let queries = servers.iter().map(|server| async move {
        let client = ServerClient::new(server.address, None, config.timeout);
        let answer = client.query(zone, WireType::SOA).await.map_err(|error| error.text().to_owned());
        let serial = answer.and_then(|message| {
            let code = message.metadata.response_code;
            wire::soa_serial(&message)
                .ok_or_else(|| format!("the answer has no SOA record of {zone} ({code})"))
        });
        (server.clone(), serial)
    });
    futures::future::join_all(queries).await
}

/// The records of one name on one server, of the types that route clients.
pub async fn siblings(
    server: &NameServer,
    name: &DomainName,
    config: &QueryConfig,
) -> Result<Vec<SiblingRecord>, String> {
    let client = ServerClient::new(server.address, None, config.timeout);
    let mut siblings = Vec::new();
    for rtype in wire::ROUTING_TYPES {
        let message =
            client.query(name, rtype).await.map_err(|error| format!("{server}: {}", error.text()))?;
        match message.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(format!("{server} answers {code} to a query for {name}/{rtype}")),
        }
        let records = wire::records_of(&message, name, rtype);
        if let Some(first) = records.first() {
            let texts: Vec<String> = records.iter().map(|record| record.data.to_string()).collect();
            siblings.push(SiblingRecord { rtype: rtype.to_string(), ttl: first.ttl, text: texts.join(", ") });
        }
    }
    Ok(siblings)
}
