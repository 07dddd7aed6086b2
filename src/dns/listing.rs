//! What a provider holds under some names, before anybody has said what is blue's and what is green's.

use super::{DomainName, RecordType};

/// What stands under the names that were asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The zone that they are in.
    pub zone: DomainName,
    /// Their records, of the types that decide where clients go.
    pub records: Vec<ListedRecord>,
}

/// One record, in the provider's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRecord {
    pub name: DomainName,
    /// Its type, as in a zone file; also those that cannot be moved, such as HTTPS.
    pub rtype: String,
    /// Its TTL in seconds.
    pub ttl: u32,
    /// Its values as `cutover.toml` has them.
    pub values: Vec<String>,
    /// Why it cannot be moved as it stands: weights of somebody else's, a health check, a program.
    pub obstacle: Option<String>,
}

impl ListedRecord {
    /// Its type, where that can be moved.
    pub fn movable(&self) -> Option<RecordType> {
        RecordType::named(&self.rtype).filter(|_| self.obstacle.is_none())
    }
}

/// Whether clients find their way by records of this type.
pub(super) fn is_decisive(rtype: &str) -> bool {
    matches!(rtype, "A" | "AAAA" | "CNAME" | "HTTPS" | "SVCB" | "ALIAS" | "LUA")
}

/// The zones that a name may be in, the smallest first.
pub(super) fn zones_of(zone: Option<&DomainName>, names: &[DomainName]) -> Vec<DomainName> {
    match (zone, names.first()) {
        (Some(zone), _) => vec![zone.clone()],
        (None, None) => Vec::new(),
        (None, Some(first)) => {
            let above = std::iter::successors(Some(first.clone()), DomainName::parent);
            above
                .filter(|zone| names.iter().all(|name| name.is_in(zone)) && !zone.as_str().starts_with("*."))
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_looked_for_from_the_name_upwards() {
        let names =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<DomainName>>();
        let found = |texts: &[&str]| {
            zones_of(None, &names(texts)).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(&["a.b.example.com"]), ["a.b.example.com", "b.example.com", "example.com", "com"]);
        assert_eq!(found(&["a.b.example.com", "c.example.com"]), ["example.com", "com"]);
        assert_eq!(found(&["*.example.com"]), ["example.com", "com"]);
        let given = "example.org".parse().unwrap();
        assert_eq!(zones_of(Some(&given), &names(&["a.example.com"])), [given]);
    }
}
