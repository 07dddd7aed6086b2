//! PowerDNS's RRsets as JSON: read as the state of a record, and written by a PATCH.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::NAME;
use super::lua::{self, Policy};
use crate::dns::change::{Plan, PlannedRecord};
use crate::dns::listing::{self, ListedRecord};
use crate::dns::{
    DnsError, DnsErrorKind, DnsResult, DomainName, Observed, ObservedRecord, Record, RecordState,
    SiblingRecord, Target, Value,
};

/// The account of the comment that contains the marker.
const ACCOUNT: &str = "kongferry";

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RrSet {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub rtype: String,
    #[serde(default)]
    pub ttl: u32,
    #[serde(default)]
    pub records: Vec<RecordContent>,
    #[serde(default)]
    pub comments: Vec<Comment>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct RecordContent {
    pub content: String,
    #[serde(default)]
    pub disabled: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Comment {
    pub content: String,
    #[serde(default)]
    pub account: String,
    #[serde(default)]
    pub modified_at: i64,
}

/// For `list`; `None` for types that do not route clients.
pub(super) fn listed(set: &RrSet) -> Option<ListedRecord> {
    if !listing::is_routing_type(&set.rtype) || set.records.is_empty() {
        return None;
    }
    let obstacle = match set.rtype.as_str() {
        "LUA" => Some("its answers are computed by a Lua program".to_owned()),
        "ALIAS" => Some("PowerDNS answers with the addresses of another name".to_owned()),
        _ if set.records.iter().any(|content| content.disabled) => {
            Some("some of its values are disabled".to_owned())
        }
        _ => None,
    };
    let values = set.records.iter().map(|content| content.content.trim_end_matches('.').to_owned());
    Some(ListedRecord {
        name: set.name.clone(),
        rtype: set.rtype.clone(),
        ttl: set.ttl,
        values: values.collect(),
        obstacle,
    })
}

pub(super) fn observe(target: &Target, sets: &[RrSet]) -> Observed {
    let records = target.records().iter().map(|record| observe_record(target, record, sets)).collect();
    let first_name = target.records().first().map(|record| &record.key.name);
    let mut comments = sets.iter().filter(|set| Some(&set.name) == first_name).flat_map(|set| &set.comments);
    let marker = comments.find(|comment| comment.account == ACCOUNT).map(|comment| comment.content.clone());
    Observed::new(records, marker)
}

fn observe_record(target: &Target, record: &Record, sets: &[RrSet]) -> ObservedRecord {
    let key = &record.key;
    let of_name = || sets.iter().filter(|set| set.name == key.name && !set.records.is_empty());
    let plain = of_name().find(|set| set.rtype == key.rtype.as_str());
    let lua = of_name().find(|set| set.rtype == "LUA");
    let split = lua.filter(|set| set.records.iter().any(|lua| lua::is_for(key.rtype, &lua.content)));
    let state = match (plain, split) {
        (None, None) => RecordState::Absent,
        (Some(plain), None) => plain_state(record, plain),
        (None, Some(lua)) => lua_state(target, record, lua),
        (Some(plain), Some(lua)) => {
            RecordState::Foreign(format!("{} and LUA {}", display(plain), display(lua)))
        }
    };
    let siblings = of_name().filter(|set| set.rtype != "LUA" && !target.contains(&set.name, &set.rtype));
    let comments: Vec<&Comment> = plain.or(split).map(foreign_comments).unwrap_or_default();
    ObservedRecord {
        key: key.clone(),
        state,
        ttl: plain.or(split).map(|set| set.ttl),
        siblings: siblings.map(sibling).collect(),
        raw: if comments.is_empty() { Json::Null } else { json!({ "comments": comments }) },
    }
}

fn sibling(set: &RrSet) -> SiblingRecord {
    SiblingRecord { rtype: set.rtype.clone(), ttl: set.ttl, text: display(set) }
}

fn foreign_comments(set: &RrSet) -> Vec<&Comment> {
    set.comments.iter().filter(|comment| comment.account != ACCOUNT).collect()
}

fn display(set: &RrSet) -> String {
    let contents = set.records.iter().map(|record| match record.disabled {
        true => format!("{} (disabled)", record.content),
        false => record.content.clone(),
    });
    contents.collect::<Vec<_>>().join(", ")
}

fn plain_state(record: &Record, set: &RrSet) -> RecordState {
    let parse = |content: &RecordContent| {
        // A disabled value would be lost when the record is written.
        (!content.disabled).then(|| Value::parse(record.key.rtype, &content.content).ok()).flatten()
    };
    let values: Option<Vec<Value>> = set.records.iter().map(parse).collect();
    let side = values.and_then(|values| record.side_of(values));
    side.map_or_else(|| RecordState::Foreign(display(set)), RecordState::Plain)
}

fn lua_state(target: &Target, record: &Record, set: &RrSet) -> RecordState {
    let of_target = |content: &RecordContent| {
        target.records().iter().any(|r| r.key.name == set.name && lua::is_for(r.key.rtype, &content.content))
    };
    // All LUA records of a name are written as one RRset, which would delete foreign ones.
    let has_foreign = set.records.iter().any(|content| content.disabled || !of_target(content));
    let mut of_type = set.records.iter().filter(|content| lua::is_for(record.key.rtype, &content.content));
    match (of_type.next(), of_type.next(), has_foreign) {
        (Some(only), None, false) => lua::state(record, &only.content),
        _ => None,
    }
    .unwrap_or_else(|| RecordState::Foreign(format!("LUA {}", display(set))))
}

/// The RRsets of one PATCH. Deletions come first: a CNAME excludes other records.
pub(super) fn patch(policy: Policy, plan: &Plan<'_>) -> DnsResult<Json> {
    let mut names: Vec<&DomainName> = Vec::new();
    for planned in &plan.records {
        if !names.contains(&&planned.record.key.name) {
            names.push(&planned.record.key.name);
        }
    }
    let marker = plan.desired.marker.as_ref().map(|marker| Comment {
        content: marker.to_text(),
        account: ACCOUNT.to_owned(),
        modified_at: marker.written_at.timestamp(),
    });
    let mut patch = Patch { marker, deletes: Vec::new(), replaces: Vec::new() };
    for name in names {
        patch.add(policy, name, &plan.records)?;
    }
    patch.deletes.append(&mut patch.replaces);
    Ok(json!({ "rrsets": patch.deletes }))
}

struct Patch {
    /// To be added to the first RRset that is written: one of the first record's name.
    marker: Option<Comment>,
    deletes: Vec<Json>,
    replaces: Vec<Json>,
}

impl Patch {
    fn add(&mut self, policy: Policy, name: &DomainName, records: &[PlannedRecord<'_>]) -> DnsResult<()> {
        let error = |kind, message: String| Err(DnsError::new(NAME, kind, message));
        let (mut lua, mut lua_ttl, mut lua_comments) = (Vec::new(), None, Vec::new());
        let of_name = records.iter().filter(|planned| planned.record.key.name == *name);
        for PlannedRecord { record, before, state, ttl } in of_name {
            let rtype = record.key.rtype.as_str();
            let mut comments = stored_comments(before);
            match *state {
                RecordState::Split { blue, green } => {
                    if lua_ttl.is_some_and(|lua_ttl| lua_ttl != *ttl) {
                        let message = format!("the split records of {name} must have one TTL");
                        return error(DnsErrorKind::Unsupported, message);
                    }
                    lua_ttl = Some(*ttl);
                    let (blue, green) = policy.scaled(blue, green);
                    lua.push(lua::content(policy, record, blue, green));
                    comments.retain(|comment| !lua_comments.contains(comment));
                    lua_comments.append(&mut comments);
                    self.delete(name, rtype);
                }
                RecordState::Plain(side) => {
                    comments.extend(self.marker.take());
                    let contents = record.values(side).iter().map(ToString::to_string).collect();
                    self.replace(name, rtype, *ttl, contents, &comments);
                }
                RecordState::Absent | RecordState::Foreign(_) => {
                    let message =
                        format!("{} has values of neither side and cannot be rewritten", record.key);
                    return error(DnsErrorKind::Conflict, message);
                }
            }
        }
        match lua_ttl {
            Some(ttl) => {
                lua_comments.extend(self.marker.take());
                self.replace(name, "LUA", ttl, lua, &lua_comments);
            }
            None => self.delete(name, "LUA"),
        }
        Ok(())
    }

    fn delete(&mut self, name: &DomainName, rtype: &str) {
        self.deletes.push(json!({ "name": name.as_str(), "type": rtype, "changetype": "DELETE" }));
    }

    fn replace(
        &mut self,
        name: &DomainName,
        rtype: &str,
        ttl: u32,
        contents: Vec<String>,
        comments: &[Comment],
    ) {
        let records = contents.iter().map(|content| json!({ "content": content, "disabled": false }));
        self.replaces.push(json!({
            "name": name.as_str(),
            "type": rtype,
            "ttl": ttl,
            "changetype": "REPLACE",
            "records": records.collect::<Json>(),
            "comments": comments,
        }));
    }
}

/// Comments of other accounts, which are kept.
fn stored_comments(before: &ObservedRecord) -> Vec<Comment> {
    let comments = before.raw.get("comments").cloned();
    comments.and_then(|comments| serde_json::from_value(comments).ok()).unwrap_or_default()
}
