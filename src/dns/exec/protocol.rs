//! The JSON objects that the operator's program reads and writes (docs/dns-providers.md).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::{NAME, error};
use crate::dns::change::{Plan, PlannedRecord};
use crate::dns::{
    Capabilities, Confirmation, DnsError, DnsErrorKind, DnsResult, DomainName, Exclusion, Observed,
    ObservedRecord, Precondition, RecordKey, RecordState, RecordType, SiblingRecord, Side, Target, Version,
    Weights,
};

const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
pub(super) struct CapabilitiesResponse {
    /// Without it, the program has no weights.
    max_sum: Option<u32>,
    /// Whether `apply` checks `expect` and writes in one step.
    #[serde(default)]
    compare_and_swap: bool,
    /// The interval of `confirm`; without it, writes are confirmed at once.
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

#[derive(Debug, Deserialize)]
pub(super) struct ReadResponse {
    version: Option<String>,
    marker: Option<String>,
    records: Vec<RecordResponse>,
}

#[derive(Debug, Deserialize)]
struct RecordResponse {
    name: DomainName,
    #[serde(rename = "type")]
    rtype: RecordType,
    #[serde(flatten)]
    state: RecordStateJson,
    ttl: Option<u32>,
    #[serde(default, alias = "neighbours")]
    siblings: Vec<SiblingRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
enum RecordStateJson {
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
    state: RecordStateJson,
    ttl: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApplyResponse {
    pub change_id: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ConfirmResponse {
    pub state: PropagationState,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PropagationState {
    Pending,
    Insync,
}

/// The response to any request that failed.
#[derive(Debug, Deserialize)]
struct FailureResponse {
    code: String,
    #[serde(default)]
    message: String,
    retry_after_s: Option<u64>,
}

pub(super) fn capabilities() -> Json {
    json!({ "v": VERSION, "op": "capabilities" })
}

/// The program finds the zone if `zone` is null.
pub(super) fn list(zone: Option<&DomainName>, names: &[DomainName]) -> Json {
    let names: Vec<&str> = names.iter().map(DomainName::without_dot).collect();
    json!({ "v": VERSION, "op": "list", "zone": zone.map(DomainName::without_dot), "names": names })
}

pub(super) fn read(target: &Target) -> Json {
    json!({ "v": VERSION, "op": "read", "target": target_json(target) })
}

pub(super) fn confirm(change_id: Option<&str>) -> Json {
    json!({ "v": VERSION, "op": "confirm", "change_id": change_id })
}

/// `id` is the same for the same change; `expect` is the version that must be current, or null to overwrite.
pub(super) fn apply(plan: &Plan<'_>) -> Json {
    let records = plan.records.iter().map(|PlannedRecord { record, state, ttl, .. }| RecordRequest {
        name: record.key.name.without_dot(),
        rtype: record.key.rtype,
        state: match state {
            RecordState::Absent => RecordStateJson::Absent,
            RecordState::Plain(side) => RecordStateJson::Plain { side: *side },
            RecordState::Split { blue, green } => {
                RecordStateJson::Split { blue_weight: *blue, green_weight: *green }
            }
            RecordState::Foreign(text) => RecordStateJson::Foreign { text: text.clone() },
        },
        ttl: *ttl,
    });
    let is_conditional = plan.desired.precondition == Precondition::Unchanged;
    json!({
        "v": VERSION,
        "op": "apply",
        "id": plan.id(),
        "target": target_json(plan.target),
        "records": records.collect::<Vec<_>>(),
        "marker": plan.marker_text(),
        "expect": is_conditional.then_some(&plan.before.version),
    })
}

fn target_json(target: &Target) -> Json {
    json!({ "zone": target.zone().without_dot(), "records": target.records() })
}

/// The response, or the failure that the program reports.
pub(super) fn parse<T: for<'de> Deserialize<'de>>(writes: bool, text: &str) -> DnsResult<T> {
    let transient = DnsErrorKind::Transient { may_be_applied: writes };
    let invalid = |reason: String| {
        error(transient, format!("the program's response is invalid ({reason})")).with_answer(text)
    };
    let json: Json = serde_json::from_str(text).map_err(|e| invalid(e.to_string()))?;
    match json.get("ok").and_then(Json::as_bool) {
        Some(true) => serde_json::from_value(json).map_err(|e| invalid(e.to_string())),
        Some(false) => {
            let failure: FailureResponse =
                serde_json::from_value(json).map_err(|e| invalid(e.to_string()))?;
            Err(failure.error(transient))
        }
        None => Err(invalid("\"ok\" is missing".to_owned())),
    }
}

impl FailureResponse {
    fn error(self, transient: DnsErrorKind) -> DnsError {
        let (kind, message) = match &*self.code {
            "conflict" => (DnsErrorKind::Conflict, "the records were changed after kongferry read them"),
            "auth" => (DnsErrorKind::Auth, "the program reports that its credentials were rejected"),
            "not_found" => (DnsErrorKind::NotFound, "the program does not find the zone or a record"),
            "invalid" => (DnsErrorKind::Invalid, "the program rejects the request"),
            "unsupported" => (DnsErrorKind::Unsupported, "the program does not support the request"),
            "throttled" => {
                let retry_after = self.retry_after_s.map(Duration::from_secs);
                (
                    DnsErrorKind::Throttled { retry_after },
                    "the program reports that a rate limit was exceeded",
                )
            }
            _ => (transient, "the program failed"),
        };
        error(kind, message).with_answer(self.message)
    }
}

impl ReadResponse {
    /// Every record of the target must be in the response.
    pub(super) fn observed(self, target: &Target) -> DnsResult<Observed> {
        let mut records = Vec::new();
        for record in target.records() {
            let key = &record.key;
            let found = self.records.iter().find(|found| found.name == key.name && found.rtype == key.rtype);
            let found = found.ok_or_else(|| {
                DnsError::transient(NAME, format!("{key} is missing in the program's response to `read`"))
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

impl RecordResponse {
    fn observed(&self, key: &RecordKey) -> ObservedRecord {
        let state = match &self.state {
            RecordStateJson::Absent => RecordState::Absent,
            RecordStateJson::Plain { side } => RecordState::Plain(*side),
            RecordStateJson::Split { blue_weight: 0, green_weight: 0 } => {
                RecordState::Foreign("both weights are 0".to_owned())
            }
            RecordStateJson::Split { blue_weight, green_weight } => {
                RecordState::Split { blue: *blue_weight, green: *green_weight }
            }
            RecordStateJson::Foreign { text } => RecordState::Foreign(text.clone()),
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
