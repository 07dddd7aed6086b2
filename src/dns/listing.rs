//! A provider's records of some names, for the draft of a `cutover.toml`.

use serde::Deserialize;

use super::{DomainName, RecordType};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listing {
    pub zone: DomainName,
    /// Of the types that route clients.
    pub records: Vec<ListedRecord>,
}

/// Deserialized from the response of an `exec` program.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedRecord {
    pub name: DomainName,
    /// As in a zone file; also types that cannot be moved, such as HTTPS.
    #[serde(rename = "type")]
    pub rtype: String,
    /// In seconds.
    pub ttl: u32,
    /// As in `cutover.toml`.
    pub values: Vec<String>,
    /// Why it cannot be moved, such as "it has a health check".
    pub obstacle: Option<String>,
}

impl ListedRecord {
    /// `None` if the record cannot be moved.
    pub fn movable(&self) -> Option<RecordType> {
        RecordType::from_name(&self.rtype).filter(|_| self.obstacle.is_none())
    }
}

/// Whether records of this type route clients.
pub(super) fn is_routing_type(rtype: &str) -> bool {
    matches!(rtype, "A" | "AAAA" | "CNAME" | "HTTPS" | "SVCB" | "ALIAS" | "LUA")
}

/// The zones that may contain all names, the smallest first.
pub(super) fn candidate_zones(zone: Option<&DomainName>, names: &[DomainName]) -> Vec<DomainName> {
    match (zone, names.first()) {
        (Some(zone), _) => vec![zone.clone()],
        (None, None) => Vec::new(),
        (None, Some(first)) => {
            let ancestors = std::iter::successors(Some(first.clone()), DomainName::parent);
            ancestors
                .filter(|zone| names.iter().all(|name| name.is_in(zone)) && !zone.as_str().starts_with("*."))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_zones_are_the_names_ancestors() {
        let names =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<DomainName>>();
        let found = |texts: &[&str]| {
            candidate_zones(None, &names(texts)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(&["a.b.example.com"]), ["a.b.example.com", "b.example.com", "example.com", "com"]);
        assert_eq!(found(&["a.b.example.com", "c.example.com"]), ["example.com", "com"]);
        assert_eq!(found(&["*.example.com"]), ["example.com", "com"]);
        let given = "example.org".parse().unwrap();
        assert_eq!(candidate_zones(Some(&given), &names(&["a.example.com"])), [given]);
    }
}
