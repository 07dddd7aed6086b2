//! PowerDNS's RRsets as JSON: what they say about a record, and what is sent to change them.

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::lua::{self, Policy};
use crate::dns::change::Wanted;
use crate::dns::listing::{self, ListedRecord};
use crate::dns::{
    DnsError, DnsErrorKind, DnsResult, DomainName, Marker, Observed, ObservedRecord, Record, RecordState,
    SiblingRecord, Side, Target,
};

/// Which account our comment is of.
const ACCOUNT: &str = "kongferry";

/// One RRset, as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RrSet {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub rtype: String,
    #[serde(default)]
    pub ttl: u32,
    #[serde(default)]
    pub records: Vec<Content>,
    #[serde(default)]
    pub comments: Vec<Comment>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Content {
    pub content: String,
    #[serde(default)]
    pub disabled: bool,
}

/// A comment on an RRset; ours holds the marker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Comment {
    pub content: String,
    #[serde(default)]
    pub account: String,
    #[serde(default)]
    pub modified_at: i64,
}

/// An RRset for a first draft; none where clients do not go by it.
pub(super) fn listed(set: &RrSet) -> Option<ListedRecord> {
    if !listing::is_decisive(&set.rtype) || set.records.is_empty() {
        return None;
    }
    let obstacle = match set.rtype.as_str() {
        "LUA" => Some("a program decides what is answered".to_owned()),
        "ALIAS" => Some("PowerDNS takes its addresses from another name".to_owned()),
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

/// What the RRsets of the target's names say.
pub(super) fn observe(target: &Target, sets: &[RrSet]) -> Observed {
    let records = target.records().iter().map(|record| observe_record(target, record, sets)).collect();
    let first = target.records().first().map(|record| &record.key.name);
    let of_first = sets.iter().filter(|set| Some(&set.name) == first);
    let mut comments = of_first.flat_map(|set| &set.comments);
    let marker = comments.find(|comment| comment.account == ACCOUNT).map(|comment| comment.content.clone());
    Observed::new(records, marker)
}

fn observe_record(target: &Target, record: &Record, sets: &[RrSet]) -> ObservedRecord {
    let key = &record.key;
    let named = || sets.iter().filter(|set| set.name == key.name);
    let plain = named().find(|set| set.rtype == key.rtype.as_str() && !set.records.is_empty());
    let lua = named().find(|set| set.rtype == "LUA" && !set.records.is_empty());
    let ours = |content: &Content| lua::is_for(key.rtype, &content.content);
    let split = lua.filter(|set| set.records.iter().any(ours));
    let state = match (plain, split) {
        (None, None) => RecordState::Absent,
        (Some(plain), None) => plain_state(record, plain),
        (None, Some(lua)) => lua_state(target, record, lua),
        (Some(plain), Some(lua)) => {
            RecordState::Foreign(format!("{} beside LUA {}", texts(plain), texts(lua)))
        }
    };
    let is_target = |set: &RrSet| {
        target.records().iter().any(|r| r.key.name == set.name && r.key.rtype.as_str() == set.rtype)
    };
    let siblings = named().filter(|set| !is_target(set) && set.rtype != "LUA" && !set.records.is_empty());
    let others =
        |set: &RrSet| set.comments.iter().filter(|c| c.account != ACCOUNT).cloned().collect::<Vec<_>>();
    let comments = plain.or(split).map(others).unwrap_or_default();
    ObservedRecord {
        key: key.clone(),
        state,
        ttl: plain.or(split).map(|set| set.ttl),
        siblings: siblings.map(sibling).collect(),
        raw: if comments.is_empty() { Json::Null } else { json!({ "comments": comments }) },
    }
}

fn sibling(set: &RrSet) -> SiblingRecord {
    SiblingRecord { rtype: set.rtype.clone(), ttl: set.ttl, text: texts(set) }
}

fn texts(set: &RrSet) -> String {
    let shown =
        set.records.iter().map(|r| format!("{}{}", r.content, if r.disabled { " (disabled)" } else { "" }));
    shown.collect::<Vec<_>>().join(", ")
}

fn plain_state(record: &Record, set: &RrSet) -> RecordState {
    let parsed = set.records.iter().filter(|content| !content.disabled);
    let parsed = parsed.map(|content| crate::dns::Value::parse(record.key.rtype, &content.content).ok());
    let mut values = parsed.collect::<Option<Vec<_>>>().unwrap_or_default();
    values.sort();
    let side = [Side::Blue, Side::Green].into_iter().find(|&side| record.values(side) == values);
    // A disabled value would be lost when the record is written.
    let whole = set.records.iter().all(|content| !content.disabled);
    side.filter(|_| whole).map_or_else(|| RecordState::Foreign(texts(set)), RecordState::Plain)
}

fn lua_state(target: &Target, record: &Record, set: &RrSet) -> RecordState {
    let of_target = |content: &Content| {
        target.records().iter().any(|r| r.key.name == set.name && lua::is_for(r.key.rtype, &content.content))
    };
    // All LUA records of a name are written as one RRset, so a stranger among them would be lost.
    let strangers = set.records.iter().any(|content| content.disabled || !of_target(content));
    let mut ours = set.records.iter().filter(|content| lua::is_for(record.key.rtype, &content.content));
    match (ours.next(), ours.next(), strangers) {
        (Some(only), None, false) => lua::state(record, &only.content),
        _ => None,
    }
    .unwrap_or_else(|| RecordState::Foreign(format!("LUA {}", texts(set))))
}

/// The RRsets of one PATCH. What is deleted comes first: a CNAME may stand beside nothing.
pub(super) fn patch(
    provider: &'static str,
    policy: Policy,
    wanted: &[Wanted<'_>],
    marker: Option<&Marker>,
) -> DnsResult<Json> {
    let mut deletes = Vec::new();
    let mut replaces = Vec::new();
    let mut names: Vec<&DomainName> = Vec::new();
    for one in wanted {
        if !names.contains(&&one.record.key.name) {
            names.push(&one.record.key.name);
        }
    }
    for (position, name) in names.into_iter().enumerate() {
        let here: Vec<&Wanted<'_>> = wanted.iter().filter(|one| one.record.key.name == *name).collect();
        let marker = marker.filter(|_| position == 0);
        of_name(provider, policy, name, &here, marker, &mut deletes, &mut replaces)?;
    }
    deletes.append(&mut replaces);
    Ok(json!({ "rrsets": deletes }))
}

fn of_name(
    provider: &'static str,
    policy: Policy,
    name: &DomainName,
    here: &[&Wanted<'_>],
    marker: Option<&Marker>,
    deletes: &mut Vec<Json>,
    replaces: &mut Vec<Json>,
) -> DnsResult<()> {
    let delete = |rtype: &str| json!({ "name": name.as_str(), "type": rtype, "changetype": "DELETE" });
    let replace = |rtype: &str, ttl: u32, contents: Vec<String>, comments: Vec<Comment>| {
        let records: Vec<Json> =
            contents.iter().map(|c| json!({ "content": c, "disabled": false })).collect();
        json!({ "name": name.as_str(), "type": rtype, "ttl": ttl, "changetype": "REPLACE", "records": records,
                "comments": comments })
    };
    let mut marker = marker.map(|marker| Comment {
        content: marker.to_text(),
        account: ACCOUNT.to_owned(),
        modified_at: marker.written_at.timestamp(),
    });
    let mut lua: Vec<String> = Vec::new();
    let mut lua_ttl = None;
    let mut lua_comments = Vec::new();
    for one in here {
        let record = one.record;
        let mut comments = others(one.before);
        match one.state {
            RecordState::Split { blue, green } => {
                if lua_ttl.is_some_and(|ttl| ttl != one.ttl) {
                    let message = format!("all types of {name} share one TTL while they are split");
                    return Err(DnsError::new(provider, DnsErrorKind::Unsupported, message));
                }
                lua_ttl = Some(one.ttl);
                let (blue, green) = policy.scaled(blue, green);
                lua.push(lua::content(policy, record, blue, green));
                comments.retain(|comment| !lua_comments.contains(comment));
                lua_comments.append(&mut comments);
                deletes.push(delete(record.key.rtype.as_str()));
            }
            RecordState::Plain(side) => {
                comments.extend(marker.take());
                let contents = record.values(side).iter().map(ToString::to_string).collect();
                replaces.push(replace(record.key.rtype.as_str(), one.ttl, contents, comments));
            }
            RecordState::Absent | RecordState::Foreign(_) => {
                let message = format!("{} cannot be written as it is", record.key);
                return Err(DnsError::new(provider, DnsErrorKind::Conflict, message));
            }
        }
    }
    match lua_ttl {
        Some(ttl) => {
            lua_comments.extend(marker);
            replaces.push(replace("LUA", ttl, lua, lua_comments));
        }
        None => deletes.push(delete("LUA")),
    }
    Ok(())
}

/// Comments of other people, which stay.
fn others(before: &ObservedRecord) -> Vec<Comment> {
    before.raw.get("comments").cloned().and_then(|list| serde_json::from_value(list).ok()).unwrap_or_default()
}
