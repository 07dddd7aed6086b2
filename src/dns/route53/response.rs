//! Route 53's answers: lists of record sets, the state of a change, and errors.

use std::time::Duration;

use quick_xml::Reader;
use quick_xml::events::Event;
use serde::Deserialize;

use super::sets::Set;
use crate::dns::{Alias, DnsError, DnsErrorKind, DnsResult, DomainName};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListAnswer {
    pub resource_record_sets: RecordSets,
    pub is_truncated: bool,
    pub next_record_name: Option<String>,
    pub next_record_type: Option<String>,
    pub next_record_identifier: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecordSets {
    #[serde(rename = "ResourceRecordSet", default)]
    pub sets: Vec<WireSet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireSet {
    pub name: String,
    #[serde(rename = "Type")]
    pub rtype: String,
    set_identifier: Option<String>,
    weight: Option<u32>,
    #[serde(rename = "TTL")]
    ttl: Option<u32>,
    resource_records: Option<ResourceRecords>,
    alias_target: Option<AliasTarget>,
    health_check_id: Option<String>,
    region: Option<String>,
    failover: Option<String>,
    multi_value_answer: Option<bool>,
    traffic_policy_instance_id: Option<String>,
    geo_location: Option<serde::de::IgnoredAny>,
    cidr_routing_config: Option<serde::de::IgnoredAny>,
    geo_proximity_location: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct ResourceRecords {
    #[serde(rename = "ResourceRecord", default)]
    records: Vec<ResourceRecord>,
}

#[derive(Debug, Deserialize)]
struct ResourceRecord {
    #[serde(rename = "Value")]
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AliasTarget {
    hosted_zone_id: String,
    #[serde(rename = "DNSName")]
    dns_name: String,
    evaluate_target_health: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeAnswer {
    pub change_info: ChangeInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeInfo {
    /// With `/change/` before it.
    pub id: String,
    pub status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ZoneAnswer {
    pub hosted_zone: HostedZone,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostedZone {
    pub name: String,
    pub config: Option<ZoneConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ZoneConfig {
    pub private_zone: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProtectionsAnswer {
    pub resource_record_set_protections: Protections,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Protections {
    #[serde(rename = "ResourceRecordSetProtection", default)]
    pub list: Vec<Protection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Protection {
    pub record_name: String,
    pub record_type: String,
}

/// Route 53 writes characters other than letters, digits, - and _ as `\ooo`; a wildcard's star is `\052`.
pub(super) fn name(text: &str) -> Option<DomainName> {
    text.replace("\\052", "*").parse().ok()
}

impl WireSet {
    /// As the rest of the module knows it; `None` for a name that cannot be one of ours.
    pub(super) fn into_set(self) -> Option<Set> {
        let name = name(&self.name)?;
        let mut unknown = Vec::new();
        let mut note = |there: bool, what: &str| unknown.extend(there.then(|| what.to_owned()));
        note(self.health_check_id.is_some(), "a health check");
        note(self.region.is_some(), "latency routing");
        note(self.failover.is_some(), "failover routing");
        note(self.multi_value_answer == Some(true), "multivalue answers");
        note(self.traffic_policy_instance_id.is_some(), "a traffic policy");
        note(self.geo_location.is_some(), "geolocation routing");
        note(self.geo_proximity_location.is_some(), "geoproximity routing");
        note(self.cidr_routing_config.is_some(), "IP-based routing");
        let alias = match self.alias_target {
            Some(target) => match target.dns_name.parse() {
                Ok(name) => Some(Alias {
                    zone_id: target.hosted_zone_id,
                    name,
                    evaluate_target_health: target.evaluate_target_health,
                }),
                Err(_) => {
                    unknown.push("an alias for a name that cannot be read".to_owned());
                    None
                }
            },
            None => None,
        };
        let values = self.resource_records.map(|all| all.records.into_iter().map(|one| one.value).collect());
        Some(Set {
            name,
            rtype: self.rtype,
            weighted: self.set_identifier.zip(self.weight),
            ttl: self.ttl,
            values: values.unwrap_or_default(),
            alias,
            unknown,
        })
    }
}

/// Reads an answer that is expected to be of type `T`.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(provider: &'static str, text: &str) -> DnsResult<T> {
    quick_xml::de::from_str(text).map_err(|e| {
        let kind = DnsErrorKind::Transient { may_be_applied: false };
        DnsError::new(provider, kind, format!("its answer cannot be read ({e})")).answered(text)
    })
}

/// What a refusal means. Route 53 throttles with HTTP 400.
pub(super) fn refusal(
    provider: &'static str,
    status: u16,
    retry_after: Option<Duration>,
    writes: bool,
    text: &str,
) -> DnsError {
    let (code, messages) = code_and_messages(text);
    let (kind, message) = match (&*code, status) {
        ("Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "PriorRequestNotComplete", _)
        | (_, 429) => (DnsErrorKind::Throttled { retry_after }, "it is asked too often".to_owned()),
        (
            "AccessDenied"
            | "AccessDeniedException"
            | "InvalidClientTokenId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "ExpiredTokenException"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "UnrecognizedClientException"
            | "OptInRequired"
            | "InvalidSignatureException",
            _,
        )
        | (_, 401 | 403) => {
            (DnsErrorKind::Auth, "it refuses the credentials, or they lack a right".to_owned())
        }
        ("NoSuchHostedZone", _) => (DnsErrorKind::NotFound, "it has no such hosted zone".to_owned()),
        ("NoSuchChange", _) | (_, 404) => (DnsErrorKind::NotFound, "it knows nothing of that".to_owned()),
        (_, 500..) => {
            (DnsErrorKind::Transient { may_be_applied: writes }, format!("it failed with HTTP {status}"))
        }
        _ => (DnsErrorKind::Invalid, format!("it refuses the request with HTTP {status}")),
    };
    let said = if messages.is_empty() { text.to_owned() } else { messages.join("; ") };
    DnsError::new(provider, kind, message).answered(if code.is_empty() {
        said
    } else {
        format!("{code}: {said}")
    })
}

/// The code and all messages, whichever of its two forms an error has: `<ErrorResponse><Error>…` or
/// `<InvalidChangeBatch><Messages>…`.
fn code_and_messages(text: &str) -> (String, Vec<String>) {
    let mut reader = Reader::from_str(text);
    let mut path: Vec<String> = Vec::new();
    let (mut root, mut code, mut messages) = (None, None, Vec::new());
    while let Ok(event) = reader.read_event() {
        match event {
            Event::Start(start) => {
                let element = start.local_name().as_ref().to_owned();
                root.get_or_insert_with(|| element.clone());
                path.push(element);
            }
            Event::End(_) => {
                path.pop();
            }
            Event::Text(text) => {
                let text = text.to_string();
                match path.last().map(String::as_str) {
                    Some("Code") => code = Some(text),
                    Some("Message") => messages.push(text),
                    _ => {}
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    let named = root.filter(|root| root != "ErrorResponse");
    (code.or(named).unwrap_or_default(), messages)
}
