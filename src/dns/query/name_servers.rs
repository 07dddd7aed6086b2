//! The authoritative name servers of a zone, and how each is reached.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::QueryConfig;
use crate::dns::DomainName;
use crate::dns::wire::ServerClient;
use crate::error::{Error, Kind, Result};
use hickory_proto::rr::{RData, RecordType as WireType};

/// One address of an authoritative name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// As in the zone or the configuration.
    pub name: String,
    pub address: SocketAddr,
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        if self.name == address { f.write_str(&address) } else { write!(f, "{} ({address})", self.name) }
    }
}

const REMEDY: &str =
    "Name the servers to query in cutover.toml, for example: [query] name_servers = [\"192.0.2.53\"]";

/// The authoritative name servers of the zone: from the configuration, or by its NS records. A name with several
/// addresses is several servers; IPv6 addresses count only when this machine has a route for IPv6.
pub async fn name_servers(zone: &DomainName, config: &QueryConfig) -> Result<Vec<NameServer>> {
    let names = if config.name_servers.is_empty() {
        ns_records(zone, config).await?
    } else {
        config.name_servers.clone()
    };
    let mut servers: Vec<NameServer> = Vec::new();
    let mut failures = Vec::new();
    for name in names {
        match resolve_addresses(&name).await {
            Ok(found) => {
                servers.extend(found.into_iter().map(|address| NameServer { name: name.clone(), address }));
            }
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    servers.retain(|server| server.address.is_ipv4() || has_route(server.address));
    let mut seen = BTreeSet::new();
    servers.retain(|server| seen.insert(server.address));
    if servers.is_empty() || !failures.is_empty() {
        let error = Error::new(Kind::Connection, format!("cannot resolve every name server of {zone}"));
        return Err(failures.into_iter().fold(error, Error::detail).remedy(REMEDY));
    }
    Ok(servers)
}

async fn resolve_addresses(name: &str) -> std::io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, 53)]);
    }
    let with_port = if name.contains(':') { name.to_owned() } else { format!("{name}:53") };
    Ok(tokio::net::lookup_host(with_port).await?.collect())
}

/// Connecting a UDP socket sends nothing, but fails without a route.
fn has_route(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(address).is_ok())
}

/// The names in the zone's NS records, by the system's resolver.
async fn ns_records(zone: &DomainName, config: &QueryConfig) -> Result<Vec<String>> {
    let not_found =
        || Error::new(Kind::Connection, format!("cannot find the name servers of {zone}")).remedy(REMEDY);
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|e| not_found().source(e))?;
    let mut error = not_found();
    for resolver in resolvers(&text) {
        match ServerClient::new(resolver, None, config.timeout()).query(zone, WireType::NS).await {
            Ok(message) => {
                let names = message.answers.iter().filter_map(|record| match &record.data {
                    RData::NS(name) => Some(name.0.to_ascii().trim_end_matches('.').to_owned()),
                    _ => None,
                });
                let names: Vec<String> = names.collect();
                if !names.is_empty() {
                    return Ok(names);
                }
                error = error.detail(format!("{resolver} answers {}", message.metadata.response_code));
            }
            Err(failure) => error = error.detail(format!("{resolver}: {}", failure.text())),
        }
    }
    Err(error)
}

/// The addresses of the `nameserver` lines of `/etc/resolv.conf`.
fn resolvers(resolv_conf: &str) -> impl Iterator<Item = SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).map(|address| SocketAddr::new(address, 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_from_resolv_conf() {
        let text =
            "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\noptions edns0\n";
        let found: Vec<String> = resolvers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
