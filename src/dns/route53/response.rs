//! Responses of Route 53's API, named as in its documentation.

use std::time::Duration;

use serde::Deserialize;

use super::record_sets::ResourceRecordSet;
use super::{NAME, error};
use crate::dns::{Alias, DnsError, DnsErrorKind, DnsResult, DomainName};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListResourceRecordSetsResponse {
    pub resource_record_sets: ResourceRecordSets,
    pub is_truncated: bool,
    pub next_record_name: Option<String>,
    pub next_record_type: Option<String>,
    pub next_record_identifier: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ResourceRecordSets {
    #[serde(rename = "ResourceRecordSet", default)]
    pub sets: Vec<ResourceRecordSetXml>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ResourceRecordSetXml {
    name: String,
    #[serde(rename = "Type")]
    rtype: String,
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

/// Of `ChangeResourceRecordSets` and `GetChange`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeResponse {
    pub change_info: ChangeInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChangeInfo {
    /// After `/change/`.
    pub id: String,
    pub status: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GetHostedZoneResponse {
    pub hosted_zone: HostedZone,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostedZone {
    pub name: String,
    pub config: Option<HostedZoneConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostedZoneConfig {
    pub private_zone: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListProtectionsResponse {
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

/// Route 53 escapes characters other than letters, digits, `-` and `_`: the asterisk of a wildcard is `\052`.
pub(super) fn parse_name(text: &str) -> Option<DomainName> {
    text.replace("\\052", "*").parse().ok()
}

impl ResourceRecordSetXml {
    /// `None` for a name that is no `DomainName`.
    pub(super) fn into_record_set(self) -> Option<ResourceRecordSet> {
        let mut unsupported = Vec::new();
        let mut note = |is_used: bool, feature: &str| unsupported.extend(is_used.then(|| feature.to_owned()));
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
                    unsupported.push("an alias with an invalid target name".to_owned());
                    None
                }
            },
            None => None,
        };
        let records = self.resource_records.map(|records| records.records).unwrap_or_default();
        Some(ResourceRecordSet {
            name: parse_name(&self.name)?,
            rtype: self.rtype,
            weighted: self.set_identifier.zip(self.weight),
            ttl: self.ttl,
            values: records.into_iter().map(|record| record.value).collect(),
            alias,
            unsupported,
        })
    }
}

pub(super) fn parse<T: for<'de> Deserialize<'de>>(text: &str) -> DnsResult<T> {
    quick_xml::de::from_str(text)
        .map_err(|e| DnsError::transient(NAME, format!("the response is invalid ({e})")).with_answer(text))
}

/// Route 53 throttles with HTTP 400.
pub(super) fn error_of(status: u16, retry_after: Option<Duration>, writes: bool, text: &str) -> DnsError {
    let (code, answer) = code_and_answer(text);
    let (kind, message) = match (&*code, status) {
        ("Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "PriorRequestNotComplete", _)
        | (_, 429) => {
            (DnsErrorKind::Throttled { retry_after }, "the rate limit of the account was exceeded".to_owned())
        }
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
            (DnsErrorKind::Auth, "the credentials are rejected, or lack a privilege".to_owned())
        }
        ("NoSuchHostedZone", _) => (DnsErrorKind::NotFound, "the hosted zone does not exist".to_owned()),
        ("NoSuchChange", _) | (_, 404) => {
            (DnsErrorKind::NotFound, "the change or path does not exist".to_owned())
        }
        (_, 500..) => {
            (DnsErrorKind::Transient { may_be_applied: writes }, format!("the API failed with HTTP {status}"))
        }
        _ => (DnsErrorKind::Invalid, format!("the API rejects the request with HTTP {status}")),
    };
    error(kind, message).with_answer(answer)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorXml {
    error: ErrorDetail,
    messages: Messages,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ErrorDetail {
    code: String,
    message: String,
}

#[derive(Default, Deserialize)]
struct Messages {
    #[serde(rename = "Message", default)]
    list: Vec<String>,
}

/// The code and the text of an error's two forms: `<ErrorResponse><Error>…` and `<InvalidChangeBatch><Messages>…`.
fn code_and_answer(text: &str) -> (String, String) {
    let ErrorXml { error, messages } = quick_xml::de::from_str(text).unwrap_or_default();
    let (code, answer) = if messages.list.is_empty() {
        (error.code, error.message)
    } else {
        ("InvalidChangeBatch".to_owned(), messages.list.join("; "))
    };
    let answer = if code.is_empty() { text.to_owned() } else { format!("{code}: {answer}") };
    (code, answer)
}
