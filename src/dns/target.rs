//! What a cutover moves: records, each with what it says on blue and what it says on green.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::DomainName;
use crate::error::{Error, Result};

/// The types of record that a cutover can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
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

    /// The one that is written so in a zone file, where it is one that can be moved.
    pub fn named(text: &str) -> Option<RecordType> {
        [RecordType::A, RecordType::Aaaa, RecordType::Cname].into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The two platforms, as sides of a record.
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
    /// A record of type A or AAAA whose addresses the provider takes from another of its resources, such as
    /// Route 53's alias for a load balancer. Only some providers have it; the others refuse it.
    Alias(Alias),
}

/// The target of a [`Value::Alias`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Alias {
    /// Where the target's own records are kept: Route 53's `HostedZoneId` of the load balancer.
    pub zone_id: String,
    /// The name whose addresses are answered.
    pub name: DomainName,
    /// Whether the target's health decides whether it is answered.
    pub evaluate_target_health: bool,
}

impl Value {
    /// Reads the text of a value of a record of type `rtype`. An alias is `alias:ZONE_ID/NAME`, or
    /// `alias+health:ZONE_ID/NAME` to evaluate the target's health.
    pub fn parse(rtype: RecordType, text: &str) -> Result<Value> {
        let wrong = |what: &str| Error::usage(format!("\"{}\" is not {what}", text.escape_debug()));
        let alias = text.strip_prefix("alias:").map(|rest| (rest, false));
        if let Some((rest, health)) = alias.or(text.strip_prefix("alias+health:").map(|rest| (rest, true))) {
            let what = "alias:ZONE_ID/NAME of an A or AAAA record";
            let (zone_id, name) = rest.split_once('/').ok_or_else(|| wrong(what))?;
            let plain = !zone_id.is_empty() && zone_id.bytes().all(|c| c.is_ascii_alphanumeric());
            if !plain || rtype == RecordType::Cname {
                return Err(wrong(what));
            }
            let (zone_id, name) = (zone_id.to_owned(), name.parse()?);
            return Ok(Value::Alias(Alias { zone_id, name, evaluate_target_health: health }));
        }
        match rtype {
            RecordType::A => text.parse().map(Value::V4).map_err(|_| wrong("an IPv4 address")),
            RecordType::Aaaa => text.parse().map(Value::V6).map_err(|_| wrong("an IPv6 address")),
            RecordType::Cname => text.parse().map(Value::Name),
        }
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

/// Which record: the name and the type. Written `api.example.com/A`.
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

/// One record that is moved. In `cutover.toml` one `[[record]]`:
///
/// ```toml
/// [[record]]
/// name = "api.example.com"
/// type = "A"
/// blue = ["192.0.2.1"]
/// green = ["192.0.2.2"]
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Given", into = "Given")]
pub struct Record {
    pub key: RecordKey,
    /// What it says when all traffic goes to blue: sorted, at least one, one only for a CNAME.
    pub blue: Vec<Value>,
    /// What it says when all traffic goes to green; none of them is one of blue's.
    pub green: Vec<Value>,
}

impl Record {
    /// Checks that both sides have values of the type and share none.
    pub fn new(name: DomainName, rtype: RecordType, blue: &[String], green: &[String]) -> Result<Record> {
        let key = RecordKey { name, rtype };
        let values = |side: Side, texts: &[String]| -> Result<Vec<Value>> {
            let of = |e: Error| {
                let todo = if texts.iter().any(|text| text == "TODO") { "; fill in what it is" } else { "" };
                Error::usage(format!("{key}, {side}: {}{todo}", e.message()))
            };
            let parsed = texts.iter().map(|text| Value::parse(rtype, text)).collect::<Result<Vec<_>>>();
            let mut values = parsed.map_err(of)?;
            values.sort();
            values.dedup();
            if values.len() != texts.len() {
                return Err(Error::usage(format!("{key}, {side}: a value is given twice")));
            }
            let alias = values.iter().any(|value| matches!(value, Value::Alias(_)));
            let single = alias || rtype == RecordType::Cname;
            if values.is_empty() || (single && values.len() > 1) {
                let wanted = if single { "exactly one value" } else { "at least one value" };
                return Err(Error::usage(format!("{key} needs {wanted} for {side}")));
            }
            Ok(values)
        };
        let (blue, green) = (values(Side::Blue, blue)?, values(Side::Green, green)?);
        if let Some(both) = blue.iter().find(|value| green.contains(value)) {
            return Err(Error::usage(format!("{key}: {both} is given for blue and for green"))
                .remedy("Give each side the values that only it has."));
        }
        Ok(Record { key, blue, green })
    }

    /// Whether a value of either side is an alias.
    pub(super) fn has_alias(&self) -> bool {
        self.blue.iter().chain(&self.green).any(|value| matches!(value, Value::Alias(_)))
    }

    pub fn values(&self, side: Side) -> &[Value] {
        match side {
            Side::Blue => &self.blue,
            Side::Green => &self.green,
        }
    }
}

/// A record as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    name: DomainName,
    #[serde(rename = "type")]
    rtype: RecordType,
    blue: Vec<String>,
    green: Vec<String>,
}

impl TryFrom<Given> for Record {
    type Error = Error;

    fn try_from(given: Given) -> Result<Self> {
        Record::new(given.name, given.rtype, &given.blue, &given.green)
    }
}

impl From<Record> for Given {
    fn from(record: Record) -> Given {
        let texts = |values: &[Value]| values.iter().map(Value::to_string).collect();
        let (blue, green) = (texts(&record.blue), texts(&record.green));
        Given { name: record.key.name, rtype: record.key.rtype, blue, green }
    }
}

/// All records of one zone that a cutover moves together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    zone: DomainName,
    records: Vec<Record>,
}

impl Target {
    /// Checks that there is a record, that each lies in the zone, and that no name has a CNAME beside another type.
    pub fn new(zone: DomainName, records: Vec<Record>) -> Result<Target> {
        if records.is_empty() {
            return Err(Error::usage(format!("no record of {zone} is to be moved")));
        }
        for (position, record) in records.iter().enumerate() {
            let key = &record.key;
            if !key.name.is_in(&zone) {
                return Err(Error::usage(format!("{key} does not lie in the zone {zone}")));
            }
            for other in records.iter().take(position).map(|other| &other.key) {
                if other == key {
                    return Err(Error::usage(format!("{key} is given twice")));
                }
                let cname = other.rtype == RecordType::Cname || key.rtype == RecordType::Cname;
                if other.name == key.name && cname {
                    return Err(Error::usage(format!("{key} cannot stand beside {other}")));
                }
            }
        }
        Ok(Target { zone, records })
    }

    /// The zone, as the provider knows it.
    pub fn zone(&self) -> &DomainName {
        &self.zone
    }

    /// The records, in the order of the file.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// The record with this name and type.
    pub fn record(&self, key: &RecordKey) -> Option<&Record> {
        self.records.iter().find(|record| record.key == *key)
    }

    /// Where providers that keep the marker in a record of its own keep it.
    pub fn marker_name(&self) -> DomainName {
        // `new` refuses an empty list.
        self.records.first().map_or_else(|| self.zone.marker_name(), |record| record.key.name.marker_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, rtype: RecordType, blue: &[&str], green: &[&str]) -> Result<Record> {
        let texts = |given: &[&str]| given.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Record::new(name.parse()?, rtype, &texts(blue), &texts(green))
    }

    #[test]
    fn a_record_is_read_from_a_file() {
        let text = "name = \"api.example.com\"\ntype = \"AAAA\"\nblue = [\"2001:DB8::1\"]\ngreen = [\"2001:db8::2\"]";
        let read: Record = toml::from_str(text).unwrap();
        assert_eq!(read.key.to_string(), "api.example.com/AAAA");
        assert_eq!(read.blue[0].to_string(), "2001:db8::1");
    }

    #[test]
    fn values_are_of_their_records_type() {
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
    fn sides_have_values_and_share_none() {
        assert!(record("a.b", RecordType::A, &[], &["192.0.2.1"]).is_err());
        assert!(record("a.b", RecordType::A, &["192.0.2.1"], &["192.0.2.1"]).is_err());
        assert!(record("a.b", RecordType::A, &["192.0.2.1", "192.0.2.1"], &["192.0.2.2"]).is_err());
        assert!(record("a.b", RecordType::Cname, &["x.y", "y.x"], &["z.y"]).is_err());
        assert!(record("a.b", RecordType::Cname, &["x.y"], &["X.Y."]).is_err());
    }

    #[test]
    fn a_target_is_one_zone_without_contradictions() {
        let zone: DomainName = "example.com".parse().unwrap();
        let a = record("api.example.com", RecordType::A, &["192.0.2.1"], &["192.0.2.2"]).unwrap();
        let cname = record("api.example.com", RecordType::Cname, &["x.y"], &["z.y"]).unwrap();
        let elsewhere = record("api.example.org", RecordType::A, &["192.0.2.1"], &["192.0.2.2"]).unwrap();
        assert!(Target::new(zone.clone(), vec![a.clone()]).is_ok());
        assert!(Target::new(zone.clone(), vec![]).is_err());
        assert!(Target::new(zone.clone(), vec![a.clone(), a.clone()]).is_err());
        assert!(Target::new(zone.clone(), vec![a, cname]).is_err());
        assert!(Target::new(zone, vec![elsewhere]).is_err());
    }
}
