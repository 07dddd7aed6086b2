//! The authoritative name servers of a zone and their addresses.

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
    /// As in the zone or in cutover.toml.
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
    "List the servers in cutover.toml, for example: [query] name_servers = [\"192.0.2.53\"].";

/// Those of the configuration, or else those of the zone's NS records. Each address of a name is a server; IPv6
/// addresses are omitted if this machine has no route to them.
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
            Ok(addresses) => {
                servers
                    .extend(addresses.into_iter().map(|address| NameServer { name: name.clone(), address }));
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

/// Connecting a UDP socket sends nothing; it fails without a route.
fn has_route(address: SocketAddr) -> bool {
    std::net::UdpSocket::bind("[::]:0").is_ok_and(|socket| socket.connect(address).is_ok())
}

/// By the system's resolver.
async fn ns_records(zone: &DomainName, config: &QueryConfig) -> Result<Vec<String>> {
    let not_found =
        || Error::new(Kind::Connection, format!("cannot find the name servers of {zone}")).remedy(REMEDY);
    let text = std::fs::read_to_string("/etc/resolv.conf").map_err(|e| not_found().source(e))?;
    let mut error = not_found();
    for resolver in system_resolvers(&text) {
        match ServerClient::new(resolver, None, config.timeout).query(zone, WireType::NS).await {
            Ok(message) => {
                let names = message.answers.iter().filter_map(|record| match &record.data {
                    RData::NS(name) => Some(name.0.to_ascii().trim_end_matches('.').to_owned()),
                    _ => None,
                });
                let names: Vec<String> = names.collect();
                if !names.is_empty() {
                    return Ok(names);
                }
                error = error.detail(format!(
                    "{resolver} answers {} without NS records",
                    message.metadata.response_code
                ));
            }
            Err(failure) => error = error.detail(format!("{resolver}: {}", failure.text())),
        }
    }
    Err(error)
}

/// The addresses of the `nameserver` lines of `/etc/resolv.conf`.
fn system_resolvers(resolv_conf: &str) -> impl Iterator<Item = SocketAddr> {
    let lines = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok()).map(|address| SocketAddr::new(address, 53))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_resolvers_are_parsed_from_resolv_conf() {
        let text =
            "# comment\nsearch example.com\nnameserver 192.0.2.1\nnameserver\t2001:db8::1\noptions edns0\n";
        let found: Vec<String> = system_resolvers(text).map(|address| address.to_string()).collect();
        assert_eq!(found, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }
}
