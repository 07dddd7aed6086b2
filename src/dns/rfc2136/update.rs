//! One DNS UPDATE message (RFC 2136): as it is printed for `nsupdate`, and as it is sent.

use std::fmt;

use hickory_proto::op::{Edns, Message, OpCode, Query, UpdateMessage};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

use crate::dns::{DomainName, RecordKey, Value, wire};

/// Longest string of a TXT record.
const TXT_STRING: usize = 255;

/// All of one transaction: it is carried out whole, or not at all when a condition does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    /// The primary server, `host:port`.
    pub server: String,
    /// The zone.
    pub zone: DomainName,
    /// Conditions first, then changes.
    pub steps: Vec<Step>,
}

/// Which RRset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// One of the records that are moved.
    Record(RecordKey),
    /// A TXT record.
    Text(DomainName),
}

/// One condition or change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The RRset must be there with exactly these values.
    Require(Set, Vec<Data>),
    /// The RRset must not be there.
    RequireAbsent(Set),
    /// Removes the RRset.
    Delete(Set),
    /// Adds a value with a TTL.
    Add(Set, u32, Data),
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Data {
    /// Of a record that is moved.
    Value(Value),
    /// Of a TXT record: printable ASCII.
    Text(String),
}

impl Set {
    fn name(&self) -> &DomainName {
        match self {
            Set::Record(key) => &key.name,
            Set::Text(name) => name,
        }
    }

    fn rtype(&self) -> RecordType {
        match self {
            Set::Record(key) => wire::wire_type(key.rtype),
            Set::Text(_) => RecordType::TXT,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name().as_str(), self.rtype())
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Data::Value(value) => value.fmt(f),
            Data::Text(text) => {
                let quoted = strings(text)
                    .map(|part| format!("\"{}\"", part.replace('\\', "\\\\").replace('"', "\\\"")));
                f.write_str(&quoted.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

impl fmt::Display for Update {
    /// A script for `nsupdate`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.server.rsplit_once(':').unwrap_or((&self.server, "53"));
        writeln!(f, "server {} {port}", host.trim_matches(['[', ']']))?;
        writeln!(f, "zone {}", self.zone.as_str())?;
        for step in &self.steps {
            match step {
                Step::Require(set, data) => {
                    for one in data {
                        writeln!(f, "prereq yxrrset {set} {one}")?;
                    }
                }
                Step::RequireAbsent(set) => writeln!(f, "prereq nxrrset {set}")?,
                Step::Delete(set) => writeln!(f, "update delete {set}")?,
                Step::Add(set, ttl, data) => {
                    writeln!(f, "update add {} {ttl} {} {data}", set.name().as_str(), set.rtype())?;
                }
            }
        }
        f.write_str("send")
    }
}

impl Update {
    /// The message that is sent.
    pub(super) fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        message.add_zone(Query::query(wire::wire_name(&self.zone), RecordType::SOA));
        for step in &self.steps {
            match step {
                Step::Require(set, data) => {
                    for one in data {
                        message.add_pre_requisite(record(set, 0, one));
                    }
                }
                Step::RequireAbsent(set) => message.add_pre_requisite(empty(set, DNSClass::NONE)),
                Step::Delete(set) => message.add_update(empty(set, DNSClass::ANY)),
                Step::Add(set, ttl, data) => message.add_update(record(set, *ttl, data)),
            }
        }
        message.edns.get_or_insert_with(Edns::new).set_max_payload(1232);
        message
    }
}

fn record(set: &Set, ttl: u32, data: &Data) -> Record {
    let rdata = match data {
        Data::Value(Value::V4(address)) => RData::A(A(*address)),
        Data::Value(Value::V6(address)) => RData::AAAA(AAAA(*address)),
        Data::Value(Value::Name(name)) => RData::CNAME(CNAME(wire::wire_name(name))),
        // Refused when the change is planned.
        Data::Value(Value::Alias(alias)) => RData::CNAME(CNAME(wire::wire_name(&alias.name))),
        Data::Text(text) => RData::TXT(TXT::new(strings(text).map(str::to_owned).collect())),
    };
    Record::from_rdata(wire::wire_name(set.name()), ttl, rdata)
}

/// An RRset without data, as conditions and deletions name it.
fn empty(set: &Set, class: DNSClass) -> Record {
    let mut record = Record::update0(wire::wire_name(set.name()), 0, set.rtype());
    record.dns_class = class;
    record.into_record_of_rdata()
}

/// A TXT record's text in strings that fit; ASCII, so that any cut is between characters.
fn strings(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len()).step_by(TXT_STRING).map(move |start| &text[start..text.len().min(start + TXT_STRING)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::RecordType as Type;

    fn update() -> Update {
        let key = RecordKey { name: "api.example.test".parse().unwrap(), rtype: Type::A };
        let marker = Set::Text("_kongferry.api.example.test".parse().unwrap());
        let value = |text| Data::Value(Value::parse(Type::A, text).unwrap());
        Update {
            server: "127.0.0.1:5320".to_owned(),
            zone: "example.test".parse().unwrap(),
            steps: vec![
                Step::Require(marker.clone(), vec![Data::Text("a".repeat(300))]),
                Step::Require(Set::Record(key.clone()), vec![value("127.0.0.1")]),
                Step::RequireAbsent(Set::Text("x.example.test".parse().unwrap())),
                Step::Delete(Set::Record(key.clone())),
                Step::Add(Set::Record(key), 30, value("127.0.0.2")),
                Step::Delete(marker),
            ],
        }
    }

    #[test]
    fn it_is_printed_for_nsupdate() {
        let (first, second) = ("a".repeat(255), "a".repeat(45));
        assert_eq!(
            update().to_string(),
            format!(
                "server 127.0.0.1 5320\nzone example.test.\n\
                 prereq yxrrset _kongferry.api.example.test. TXT \"{first}\" \"{second}\"\n\
                 prereq yxrrset api.example.test. A 127.0.0.1\n\
                 prereq nxrrset x.example.test. TXT\n\
                 update delete api.example.test. A\n\
                 update add api.example.test. 30 A 127.0.0.2\n\
                 update delete _kongferry.api.example.test. TXT\nsend"
            )
        );
    }

    #[test]
    fn the_message_survives_the_wire() {
        let message = update().message();
        let read = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        assert_eq!(read.prerequisites().len(), 3);
        assert_eq!(read.updates().len(), 3);
        assert_eq!(read.prerequisites()[2].dns_class, DNSClass::NONE);
        assert_eq!(read.updates()[0].dns_class, DNSClass::ANY);
        assert_eq!(read.updates()[1].ttl, 30);
    }
}
