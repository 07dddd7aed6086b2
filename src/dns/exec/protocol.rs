//! What the user's program reads and writes: one JSON object each way, described in docs/dns-providers.md.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::dns::change::Wanted;
use crate::dns::{
    Capabilities, Confirmation, DnsError, DnsErrorKind, DnsResult, DomainName, Exclusion, ListedRecord,
    Listing, Observed, ObservedRecord, RecordKey, RecordState, RecordType, SiblingRecord, Side, Target,
    Version, Weights,
};

const V: u32 = 1;

/// The answer to `capabilities`.
#[derive(Debug, Deserialize)]
pub(super) struct CapabilitiesResponse {
    /// The largest sum of both weights; without, the program can only switch.
    max_sum: Option<u32>,
    /// Whether `apply` compares `expect` and the write in one step.
    #[serde(default)]
    compare_and_swap: bool,
    /// With it, `confirm` is asked this often.
    poll_seconds: Option<u64>,
    #[serde(default)]
    min_ttl: u32,
    #[serde(default)]
    sticky: bool,
    #[serde(default)]
    hidden: bool,
    #[serde(default)]
    settle_seconds: u64,
}

impl CapabilitiesResponse {
    pub(super) fn capabilities(&self) -> Capabilities {
        let poll = self.poll_seconds.map(|seconds| Duration::from_secs(seconds.max(1)));
        Capabilities {
            weights: self.max_sum.map_or(Weights::SwitchOnly, |max_sum| Weights::Whole { max_sum }),
            exclusion: if self.compare_and_swap { Exclusion::CompareAndSwap } else { Exclusion::ReadBack },
            confirmation: poll.map_or(Confirmation::Immediate, |interval| Confirmation::Poll { interval }),
            min_ttl: self.min_ttl,
            sticky: self.sticky,
            hidden: self.hidden,
            settle: Duration::from_secs(self.settle_seconds),
        }
    }
}

/// The answer to `read`.
#[derive(Debug, Deserialize)]
pub(super) struct ReadAnswer {
    version: Option<String>,
    marker: Option<String>,
    records: Vec<RecordAnswer>,
}

#[derive(Debug, Deserialize)]
struct RecordAnswer {
    name: DomainName,
    #[serde(rename = "type")]
    rtype: RecordType,
    #[serde(flatten)]
    state: StateAnswer,
    ttl: Option<u32>,
    #[serde(default, alias = "neighbours")]
    siblings: Vec<SiblingRecord>,
}

/// The answer to `list`.
#[derive(Debug, Deserialize)]
pub(super) struct ListAnswer {
    zone: DomainName,
    records: Vec<ListedAnswer>,
}

#[derive(Debug, Deserialize)]
struct ListedAnswer {
    name: DomainName,
    #[serde(rename = "type")]
    rtype: String,
    ttl: u32,
    values: Vec<String>,
    #[serde(default)]
    obstacle: Option<String>,
}

impl ListAnswer {
    pub(super) fn listing(self) -> Listing {
        let records = self.records.into_iter().map(|one| ListedRecord {
            name: one.name,
            rtype: one.rtype.to_ascii_uppercase(),
            ttl: one.ttl,
            values: one.values,
            obstacle: one.obstacle,
        });
        Listing { zone: self.zone, records: records.collect() }
    }
}

/// How a record stands, in requests and answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum StateAnswer {
    Absent,
    Plain { side: Side },
    Split { blue_weight: u32, green_weight: u32 },
    Foreign { text: String },
}

#[derive(Debug, Serialize)]
struct RecordRequest<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    rtype: RecordType,
    #[serde(flatten)]
    state: StateAnswer,
    ttl: u32,
}

/// The answer to `apply`.
#[derive(Debug, Deserialize)]
pub(super) struct ApplyAnswer {
    pub change_id: Option<String>,
}

/// The answer to `confirm`.
#[derive(Debug, Deserialize)]
pub(super) struct ConfirmAnswer {
    pub state: Arrival,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrival {
    Pending,
    Insync,
}

/// The answer to anything, when it failed.
#[derive(Debug, Deserialize)]
struct Failure {
    code: String,
    #[serde(default)]
    message: String,
    retry_after_s: Option<u64>,
}

pub(super) fn capabilities() -> Json {
    json!({ "v": V, "op": "capabilities" })
}

/// `zone` is null where the program has to find it.
pub(super) fn list(zone: Option<&DomainName>, names: &[DomainName]) -> Json {
    let names: Vec<&str> = names.iter().map(DomainName::without_dot).collect();
    json!({ "v": V, "op": "list", "zone": zone.map(DomainName::without_dot), "names": names })
}

pub(super) fn read(target: &Target) -> Json {
    json!({ "v": V, "op": "read", "target": target_json(target) })
}

pub(super) fn confirm(change_id: Option<&str>) -> Json {
    json!({ "v": V, "op": "confirm", "change_id": change_id })
}

/// `id` is the same for the same change; `expect` is the version that must still be there, or null to overwrite.
pub(super) fn apply(
    id: &str,
    target: &Target,
    wanted: &[Wanted<'_>],
    marker: Option<&str>,
    expect: Option<&Version>,
) -> Json {
    let records = wanted.iter().map(|one| {
        let state = match &one.state {
            RecordState::Absent => StateAnswer::Absent,
            RecordState::Plain(side) => StateAnswer::Plain { side: *side },
            RecordState::Split { blue, green } => {
                StateAnswer::Split { blue_weight: *blue, green_weight: *green }
            }
            RecordState::Foreign(text) => StateAnswer::Foreign { text: text.clone() },
        };
        RecordRequest {
            name: one.record.key.name.without_dot(),
            rtype: one.record.key.rtype,
            state,
            ttl: one.ttl,
        }
    });
    json!({
        "v": V,
        "op": "apply",
        "id": id,
        "target": target_json(target),
        "records": records.collect::<Vec<_>>(),
        "marker": marker,
        "expect": expect,
    })
}

fn target_json(target: &Target) -> Json {
    json!({ "zone": target.zone().without_dot(), "records": target.records() })
}

/// Reads what the program wrote: its answer, or the failure that it reports.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(
    provider: &'static str,
    writes: bool,
    text: &str,
) -> DnsResult<T> {
    let transient = DnsErrorKind::Transient { may_be_applied: writes };
    let unreadable = |why: String| {
        DnsError::new(provider, transient, format!("the program's answer cannot be read ({why})"))
    };
    let json: Json = serde_json::from_str(text).map_err(|e| unreadable(e.to_string()).answered(text))?;
    match json.get("ok").and_then(Json::as_bool) {
        Some(true) => serde_json::from_value(json).map_err(|e| unreadable(e.to_string()).answered(text)),
        Some(false) => {
            let failure: Failure = serde_json::from_value(json).map_err(|e| unreadable(e.to_string()))?;
            Err(failure.error(provider, transient))
        }
        None => Err(unreadable("\"ok\" is missing".to_owned()).answered(text)),
    }
}

impl Failure {
    fn error(self, provider: &'static str, transient: DnsErrorKind) -> DnsError {
        let (kind, message) = match &*self.code {
            "conflict" => (DnsErrorKind::Conflict, "the records were changed since they were read"),
            "auth" => (DnsErrorKind::Auth, "the program's credentials are refused"),
            "not_found" => (DnsErrorKind::NotFound, "the program does not find it"),
            "invalid" => (DnsErrorKind::Invalid, "the program refuses the request"),
            "unsupported" => (DnsErrorKind::Unsupported, "the program cannot do that"),
            "throttled" => {
                let retry_after = self.retry_after_s.map(Duration::from_secs);
                (DnsErrorKind::Throttled { retry_after }, "the provider is asked too often")
            }
            _ => (transient, "the program failed"),
        };
        DnsError::new(provider, kind, message).answered(self.message)
    }
}

impl ReadAnswer {
    /// Every record of the target must be in the answer.
    pub(super) fn observed(self, provider: &'static str, target: &Target) -> DnsResult<Observed> {
        let mut records = Vec::new();
        for record in target.records() {
            let key = &record.key;
            let found = self.records.iter().find(|one| one.name == key.name && one.rtype == key.rtype);
            let found = found.ok_or_else(|| {
                let kind = DnsErrorKind::Transient { may_be_applied: false };
                DnsError::new(provider, kind, format!("the program's answer says nothing about {key}"))
            })?;
            records.push(found.observed(key));
        }
        let mut observed = Observed::new(records, self.marker);
        if let Some(version) = self.version {
            observed.version = Version(version);
        }
        Ok(observed)
    }
}

impl RecordAnswer {
    fn observed(&self, key: &RecordKey) -> ObservedRecord {
        let state = match &self.state {
            StateAnswer::Absent => RecordState::Absent,
            StateAnswer::Plain { side } => RecordState::Plain(*side),
            // All zero is no share.
            StateAnswer::Split { blue_weight: 0, green_weight: 0 } => {
                RecordState::Foreign("both weights are 0".to_owned())
            }
            StateAnswer::Split { blue_weight, green_weight } => {
                RecordState::Split { blue: *blue_weight, green: *green_weight }
            }
            StateAnswer::Foreign { text } => RecordState::Foreign(text.clone()),
        };
        ObservedRecord {
            key: key.clone(),
            state,
            ttl: self.ttl,
            siblings: self.siblings.clone(),
            raw: Json::Null,
        }
    }
}
