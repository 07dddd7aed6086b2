//! What a cutover moves: records, each with blue's and green's values.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::DomainName;
use crate::error::{Error, Result};

/// The types of record that a cutover can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    A,
    Aaaa,
    Cname,
}

impl RecordType {
    pub fn as_str(self) -> &'static str {
        match self {
            RecordType::A => "A",
            RecordType::Aaaa => "AAAA",
            RecordType::Cname => "CNAME",
        }
    }

    /// The type with this name in zone files; `None` for a type that cannot be moved.
    pub fn from_name(text: &str) -> Option<RecordType> {
        [RecordType::A, RecordType::Aaaa, RecordType::Cname].into_iter().find(|rtype| rtype.as_str() == text)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The platform whose values a record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Blue,
    Green,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Blue => "blue",
            Side::Green => "green",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    V4(Ipv4Addr),
    V6(Ipv6Addr),
    Name(DomainName),
    /// The provider answers with the addresses of another resource, such as a load balancer of Route 53. For A and
    /// AAAA; providers without aliases refuse it.
    Alias(Alias),
}

/// The target of a [`Value::Alias`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alias {
    /// The zone of the target's own records: Route 53's `HostedZoneId` of the load balancer.
    pub zone_id: String,
    /// The name whose addresses are the answer.
    pub name: DomainName,
    /// Whether the provider omits the target while it is unhealthy.
    pub evaluate_target_health: bool,
}

impl Value {
    /// An alias is `alias:ZONE_ID/NAME`, or `alias+health:ZONE_ID/NAME` to evaluate the target's health.
    pub fn parse(rtype: RecordType, text: &str) -> Result<Value> {
        let invalid = |expected: &str| Error::usage(format!("\"{}\" is not {expected}", text.escape_debug()));
        let alias = text.strip_prefix("alias:").map(|alias| (alias, false));
        let alias = alias.or(text.strip_prefix("alias+health:").map(|alias| (alias, true)));
        if let Some((alias, evaluate_target_health)) = alias {
            let expected = "alias:ZONE_ID/NAME of an A or AAAA record";
            let (zone_id, name) = alias.split_once('/').ok_or_else(|| invalid(expected))?;
            let is_id = !zone_id.is_empty() && zone_id.bytes().all(|c| c.is_ascii_alphanumeric());
            if !is_id || rtype == RecordType::Cname {
                return Err(invalid(expected));
            }
            return Ok(Value::Alias(Alias {
                zone_id: zone_id.to_owned(),
                name: name.parse()?,
                evaluate_target_health,
            }));
        }
        match rtype {
            RecordType::A => text.parse().map(Value::V4).map_err(|_| invalid("an IPv4 address")),
            RecordType::Aaaa => text.parse().map(Value::V6).map_err(|_| invalid("an IPv6 address")),
            RecordType::Cname => text.parse().map(Value::Name),
        }
    }

    pub(super) fn is_alias(&self) -> bool {
        matches!(self, Value::Alias(_))
    }
}

impl fmt::Display for Value {
    /// As in a zone file: names with their final dot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::V4(address) => address.fmt(f),
            Value::V6(address) => address.fmt(f),
            Value::Name(name) => f.write_str(name.as_str()),
            Value::Alias(alias) => {
                let health = if alias.evaluate_target_health { "+health" } else { "" };
                write!(f, "alias{health}:{}/{}", alias.zone_id, alias.name)
            }
        }
    }
}

/// Name and type of a record, displayed as `api.example.com/A`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub rtype: RecordType,
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.rtype)
    }
}

/// A record that the cutover moves: one `[[record]]` of `cutover.toml`.
///
/// ```toml
/// [[record]]
/// name = "api.example.com"
/// type = "A"
/// blue = ["192.0.2.1"]
/// green = ["192.0.2.2"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RecordToml", into = "RecordToml")]
pub struct Record {
    pub key: RecordKey,
    /// Sorted, at least one; exactly one for a CNAME or an alias.
    pub blue: Vec<Value>,
    /// As `blue`; no value is in both.
    pub green: Vec<Value>,
}

impl Record {
    /// Checks that both sides have values of the type and share none.
    pub fn new(name: DomainName, rtype: RecordType, blue: &[String], green: &[String]) -> Result<Record> {
        let key = RecordKey { name, rtype };
        let values = |side: Side, texts: &[String]| -> Result<Vec<Value>> {
            let parsed = texts.iter().map(|text| Value::parse(rtype, text)).collect::<Result<Vec<_>>>();
            let mut values = parsed.map_err(|e| {
                let is_draft = texts.iter().any(|text| text == "TODO");
                let hint = if is_draft { "; replace TODO with the value" } else { "" };
                Error::usage(format!("{key}, {side}: {}{hint}", e.message()))
            })?;
            values.sort();
            values.dedup();
            if values.len() != texts.len() {
                return Err(Error::usage(format!("{key}, {side}: a value occurs twice")));
            }
            let is_single = rtype == RecordType::Cname || values.iter().any(Value::is_alias);
            if values.is_empty() || (is_single && values.len() > 1) {
                let expected = if is_single { "exactly one value" } else { "at least one value" };
                return Err(Error::usage(format!("{key} needs {expected} for {side}")));
            }
            Ok(values)
        };
        let (blue, green) = (values(Side::Blue, blue)?, values(Side::Green, green)?);
        if let Some(shared) = blue.iter().find(|value| green.contains(value)) {
            return Err(Error::usage(format!("{key}: {shared} is a value of blue and of green"))
                .remedy("Remove the value from the side that does not serve it."));
        }
        Ok(Record { key, blue, green })
    }

    pub(super) fn has_alias(&self) -> bool {
        self.blue.iter().chain(&self.green).any(Value::is_alias)
    }

    /// The side that has exactly these values.
    pub(super) fn side_of(&self, mut values: Vec<Value>) -> Option<Side> {
        values.sort();
        [Side::Blue, Side::Green].into_iter().find(|&side| self.values(side) == values)
    }

    pub fn values(&self, side: Side) -> &[Value] {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

/// `[[record]]` of `cutover.toml`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordToml {
    name: DomainName,
    #[serde(rename = "type")]
    rtype: RecordType,
    blue: Vec<String>,
    green: Vec<String>,
}

impl TryFrom<RecordToml> for Record {
    type Error = Error;

    fn try_from(toml: RecordToml) -> Result<Self> {
        Record::new(toml.name, toml.rtype, &toml.blue, &toml.green)
    }
}

impl From<Record> for RecordToml {
    fn from(record: Record) -> RecordToml {
        let texts = |values: &[Value]| values.iter().map(Value::to_string).collect();
        let (blue, green) = (texts(&record.blue), texts(&record.green));
        RecordToml { name: record.key.name, rtype: record.key.rtype, blue, green }
    }
}

/// The records of one zone that a cutover moves together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    zone: DomainName,
    records: Vec<Record>,
}

impl Target {
    /// Checks that there is a record, that each is in the zone, and that no name has a CNAME and another type.
    pub fn new(zone: DomainName, records: Vec<Record>) -> Result<Target> {
        if records.is_empty() {
            return Err(Error::usage(format!("no record of {zone} is given"))
                .remedy("Add a [[record]] for each record to move."));
        }
        for (position, record) in records.iter().enumerate() {
            let key = &record.key;
            if !key.name.is_in(&zone) {
                return Err(Error::usage(format!("{key} is not in the zone {zone}")));
            }
            for other in records.iter().take(position).map(|other| &other.key) {
                if other == key {
                    return Err(Error::usage(format!("{key} occurs twice")));
                }
                let has_cname = [other.rtype, key.rtype].contains(&RecordType::Cname);
                if other.name == key.name && has_cname {
                    return Err(Error::usage(format!(
                        "{key} and {other} exclude each other: a name with a CNAME has no other record"
                    )));
                }
            }
        }
        Ok(Target { zone, records })
    }

    pub fn zone(&self) -> &DomainName {
        &self.zone
    }

    /// In the order of the file.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    pub(super) fn names(&self) -> BTreeSet<&DomainName> {
        self.records.iter().map(|record| &record.key.name).collect()
    }

    /// Whether a record of this name and type, as in a zone file, is moved.
    pub(super) fn contains(&self, name: &DomainName, rtype: &str) -> bool {
        self.records.iter().any(|record| record.key.name == *name && record.key.rtype.as_str() == rtype)
    }

    /// The TXT record of the marker, for providers that store it in a record.
    pub fn marker_name(&self) -> DomainName {
        // `new` refuses an empty list.
        self.records.first().map_or_else(|| self.zone.marker_name(), |record| record.key.name.marker_name())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn parse_record(name: &str, rtype: RecordType, blue: &[&str], green: &[&str]) -> Result<Record> {
        let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Record::new(name.parse()?, rtype, &texts(blue), &texts(green))
    }

    /// `api.example.com`.
    pub(in crate::dns) fn record(rtype: RecordType, blue: &[&str], green: &[&str]) -> Record {
        parse_record("api.example.com", rtype, blue, green).unwrap()
    }

    #[test]
    fn a_record_is_parsed_from_toml() {
        let text = "name = \"api.example.com\"\ntype = \"AAAA\"\nblue = [\"2001:DB8::1\"]\ngreen = [\"2001:db8::2\"]";
        let parsed: Record = toml::from_str(text).unwrap();
        assert_eq!(parsed.key.to_string(), "api.example.com/AAAA");
        assert_eq!(parsed.blue[0].to_string(), "2001:db8::1");
    }

    #[test]
    fn values_must_fit_the_record_type() {
        for (rtype, value) in [
            (RecordType::A, "::1"),
            (RecordType::A, "192.0.2.256"),
            (RecordType::Aaaa, "192.0.2.1"),
            (RecordType::Cname, "a'b"),
            (RecordType::Cname, "alias:Z1/a.example"),
            (RecordType::A, "alias:Z'1/a.example"),
        ] {
            assert!(Value::parse(rtype, value).is_err(), "{rtype} {value}");
        }
    }

    #[test]
    fn each_side_needs_values_of_its_own() {
        assert!(parse_record("a.b", RecordType::A, &[], &["192.0.2.1"]).is_err());
        assert!(parse_record("a.b", RecordType::A, &["192.0.2.1"], &["192.0.2.1"]).is_err());
        assert!(parse_record("a.b", RecordType::A, &["192.0.2.1", "192.0.2.1"], &["192.0.2.2"]).is_err());
        assert!(parse_record("a.b", RecordType::Cname, &["x.y", "y.x"], &["z.y"]).is_err());
        assert!(parse_record("a.b", RecordType::Cname, &["x.y"], &["X.Y."]).is_err());
    }

    #[test]
    fn a_target_is_one_zone_without_duplicates_and_cname_conflicts() {
        let zone: DomainName = "example.com".parse().unwrap();
        let a = parse_record("api.example.com", RecordType::A, &["192.0.2.1"], &["192.0.2.2"]).unwrap();
        let cname = parse_record("api.example.com", RecordType::Cname, &["x.y"], &["z.y"]).unwrap();
        let other_zone =
            parse_record("api.example.org", RecordType::A, &["192.0.2.1"], &["192.0.2.2"]).unwrap();
        assert!(Target::new(zone.clone(), vec![a.clone()]).is_ok());
        assert!(Target::new(zone.clone(), vec![]).is_err());
        assert!(Target::new(zone.clone(), vec![a.clone(), a.clone()]).is_err());
        assert!(Target::new(zone.clone(), vec![a, cname]).is_err());
        assert!(Target::new(zone, vec![other_zone]).is_err());
    }
}
