//! One DNS UPDATE message (RFC 2136): as a script for `nsupdate` and as it is sent.

use std::fmt;

use hickory_proto::op::{Edns, Message, OpCode, Query, UpdateMessage};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, TXT};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

use super::marker::txt_strings;
use super::{DomainName, RecordKey, Value, wire};

/// One transaction: carried out as a whole, or not at all if a prerequisite fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsUpdate {
    /// The primary, `host:port`.
    pub server: String,
    pub zone: DomainName,
    pub steps: Vec<UpdateStep>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateSet {
    Record(RecordKey),
    /// The marker's TXT record.
    Text(DomainName),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateStep {
    /// The RRset must exist with exactly these values.
    Require(UpdateSet, Vec<UpdateData>),
    RequireAbsent(UpdateSet),
    Delete(UpdateSet),
    /// A value with its TTL in seconds.
    Add(UpdateSet, u32, UpdateData),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateData {
    Value(Value),
    /// Of the marker: printable ASCII.
    Text(String),
}

impl UpdateSet {
    fn name(&self) -> &DomainName {
        match self {
            UpdateSet::Record(key) => &key.name,
            UpdateSet::Text(name) => name,
        }
    }

    fn rtype(&self) -> RecordType {
        match self {
            UpdateSet::Record(key) => wire::wire_type(key.rtype),
            UpdateSet::Text(_) => RecordType::TXT,
        }
    }
}

impl fmt::Display for UpdateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name().as_str(), self.rtype())
    }
}

impl fmt::Display for UpdateData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateData::Value(value) => value.fmt(f),
            UpdateData::Text(text) => {
                let quoted = txt_strings(text).map(|string| {
                    // Another client's text in the place of the marker may contain them.
                    format!("\"{}\"", string.replace('\\', "\\\\").replace('"', "\\\""))
                });
                f.write_str(&quoted.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

impl fmt::Display for DnsUpdate {
    /// As a script for `nsupdate`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port) = self.server.rsplit_once(':').unwrap_or((&self.server, "53"));
        writeln!(f, "server {} {port}", host.trim_matches(['[', ']']))?;
        writeln!(f, "zone {}", self.zone.as_str())?;
        for step in &self.steps {
            match step {
                UpdateStep::Require(set, data) => {
                    for value in data {
                        writeln!(f, "prereq yxrrset {set} {value}")?;
                    }
                }
                UpdateStep::RequireAbsent(set) => writeln!(f, "prereq nxrrset {set}")?,
                UpdateStep::Delete(set) => writeln!(f, "update delete {set}")?,
                UpdateStep::Add(set, ttl, data) => {
                    writeln!(f, "update add {} {ttl} {} {data}", set.name().as_str(), set.rtype())?;
                }
            }
        }
        f.write_str("send")
    }
}

impl DnsUpdate {
    pub(super) fn message(&self) -> Message {
        let mut message = Message::query();
        message.metadata.op_code = OpCode::Update;
        message.metadata.recursion_desired = false;
        message.add_zone(Query::query(wire::wire_name(&self.zone), RecordType::SOA));
        for step in &self.steps {
            match step {
                UpdateStep::Require(set, data) => {
                    for value in data {
                        message.add_pre_requisite(record(set, 0, value));
                    }
                }
                UpdateStep::RequireAbsent(set) => message.add_pre_requisite(empty(set, DNSClass::NONE)),
                UpdateStep::Delete(set) => message.add_update(empty(set, DNSClass::ANY)),
                UpdateStep::Add(set, ttl, data) => message.add_update(record(set, *ttl, data)),
            }
        }
        message.edns.get_or_insert_with(Edns::new).set_max_payload(1232);
        message
    }
}

fn record(set: &UpdateSet, ttl: u32, data: &UpdateData) -> Record {
    let rdata = match data {
        UpdateData::Value(Value::V4(address)) => RData::A(A(*address)),
        UpdateData::Value(Value::V6(address)) => RData::AAAA(AAAA(*address)),
        UpdateData::Value(Value::Name(name)) => RData::CNAME(CNAME(wire::wire_name(name))),
        // Unreachable: planning refuses aliases.
        UpdateData::Value(Value::Alias(alias)) => RData::CNAME(CNAME(wire::wire_name(&alias.name))),
        UpdateData::Text(text) => RData::TXT(TXT::new(txt_strings(text).map(str::to_owned).collect())),
    };
    Record::from_rdata(wire::wire_name(set.name()), ttl, rdata)
}

/// An RRset without data, for prerequisites and deletions.
fn empty(set: &UpdateSet, class: DNSClass) -> Record {
    let mut record = Record::update0(wire::wire_name(set.name()), 0, set.rtype());
    record.dns_class = class;
    record.into_record_of_rdata()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::RecordType as TargetType;

    fn update() -> DnsUpdate {
        let key = RecordKey { name: "api.example.test".parse().unwrap(), rtype: TargetType::A };
        let marker = UpdateSet::Text("_kongferry.api.example.test".parse().unwrap());
        let value = |text| UpdateData::Value(Value::parse(TargetType::A, text).unwrap());
        DnsUpdate {
            server: "127.0.0.1:5320".to_owned(),
            zone: "example.test".parse().unwrap(),
            steps: vec![
                UpdateStep::Require(marker.clone(), vec![UpdateData::Text("a".repeat(300))]),
                UpdateStep::Require(UpdateSet::Record(key.clone()), vec![value("127.0.0.1")]),
                UpdateStep::RequireAbsent(UpdateSet::Text("x.example.test".parse().unwrap())),
                UpdateStep::Delete(UpdateSet::Record(key.clone())),
                UpdateStep::Add(UpdateSet::Record(key), 30, value("127.0.0.2")),
                UpdateStep::Delete(marker),
            ],
        }
    }

    #[test]
    fn an_update_is_displayed_as_an_nsupdate_script() {
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
        let decoded = Message::from_vec(&message.to_vec().unwrap()).unwrap();
        assert_eq!(decoded.prerequisites().len(), 3);
        assert_eq!(decoded.updates().len(), 3);
        assert_eq!(decoded.prerequisites()[2].dns_class, DNSClass::NONE);
        assert_eq!(decoded.updates()[0].dns_class, DNSClass::ANY);
        assert_eq!(decoded.updates()[1].ttl, 30);
    }
}
