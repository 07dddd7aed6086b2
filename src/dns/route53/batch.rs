//! One ChangeBatch: every change that a write makes, as XML for the wire and as JSON for `aws route53`.
//!
//! Route 53 carries out all of a batch or nothing, and a DELETE must name exactly what is there. That makes DELETE and
//! CREATE in one batch a compare-and-swap, of the records and of the marker; UPSERT overwrites whatever is there.

use std::fmt::Write as _;

use quick_xml::escape::escape;
use serde_json::{Value as Json, json};

use super::sets::{self, Set};
use crate::dns::change::Wanted;
use crate::dns::{Desired, DnsError, DnsErrorKind, DnsResult, Observed, Precondition, Target};

pub(super) const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Delete,
    Upsert,
}

impl Action {
    fn as_str(self) -> &'static str {
        match self {
            Action::Create => "CREATE",
            Action::Delete => "DELETE",
            Action::Upsert => "UPSERT",
        }
    }
}

/// The changes of one request, in order.
#[derive(Debug)]
pub(super) struct Batch {
    pub comment: String,
    pub changes: Vec<(Action, Set)>,
}

impl Batch {
    /// Works out the changes. The order is that of the precondition: first what must be there, then what shall be there.
    pub(super) fn plan(
        provider: &'static str,
        target: &Target,
        before: &Observed,
        desired: &Desired,
        wanted: &[Wanted<'_>],
    ) -> DnsResult<Batch> {
        let mut changes = Vec::new();
        let old = before.marker_text.as_deref().map(|text| sets::marker(target, text));
        let new = desired.marker.as_ref().map(|marker| sets::marker(target, &marker.to_text()));
        match (desired.precondition, old, new) {
            (Precondition::Overwrite, _, Some(new)) => changes.push((Action::Upsert, new)),
            (_, old, new) => {
                changes.extend(old.map(|old| (Action::Delete, old)));
                changes.extend(new.map(|new| (Action::Create, new)));
            }
        }
        for one in wanted {
            let found: Vec<Set> = serde_json::from_value(one.before.raw.clone()).unwrap_or_default();
            let written = sets::of_state(one.record, &one.state, one.ttl).ok_or_else(|| {
                let message =
                    format!("{}: weights for so many values do not fit into 0 to 255", one.record.key);
                DnsError::new(provider, DnsErrorKind::Unsupported, message)
            })?;
            replace(provider, desired.precondition, found, written, &mut changes)?;
        }
        let comment = desired.marker.as_ref().map_or_else(
            || "kongferry: end of the cutover".to_owned(),
            |marker| format!("kongferry: {} to green, generation {}", marker.share, marker.generation),
        );
        Ok(Batch { comment, changes })
    }

    pub(super) fn xml(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(xml, "<ChangeResourceRecordSetsRequest xmlns=\"{NAMESPACE}\">\n  <ChangeBatch>");
        let _ = writeln!(xml, "    <Comment>{}</Comment>\n    <Changes>", escape(&self.comment));
        for (action, set) in &self.changes {
            let _ = writeln!(xml, "      <Change>\n        <Action>{}</Action>", action.as_str());
            set_xml(&mut xml, set);
            xml.push_str("      </Change>\n");
        }
        xml.push_str("    </Changes>\n  </ChangeBatch>\n</ChangeResourceRecordSetsRequest>\n");
        xml
    }

    /// The same for `aws route53 change-resource-record-sets --change-batch`.
    pub(super) fn json(&self) -> Json {
        let changes: Vec<Json> = self
            .changes
            .iter()
            .map(|(action, set)| json!({ "Action": action.as_str(), "ResourceRecordSet": set_json(set) }))
            .collect();
        json!({ "Comment": self.comment, "Changes": changes })
    }
}

fn replace(
    provider: &'static str,
    precondition: Precondition,
    found: Vec<Set>,
    written: Vec<Set>,
    changes: &mut Vec<(Action, Set)>,
) -> DnsResult<()> {
    let same_kind = |one: &Set, other: &Set| one.identifier() == other.identifier();
    // What an UPSERT replaces need not be deleted; the rest is in the way (weighted beside simple is refused).
    let upserts = precondition == Precondition::Overwrite;
    for old in found {
        let replaced = written.iter().any(|new| same_kind(&old, new));
        if upserts && replaced {
            continue;
        }
        if let Some(unknown) = old.unknown.first() {
            let message = format!("{}/{} has {unknown}, which cannot be written back", old.name, old.rtype);
            return Err(DnsError::new(provider, DnsErrorKind::Conflict, message));
        }
        changes.push((Action::Delete, old));
    }
    let action = if upserts { Action::Upsert } else { Action::Create };
    changes.extend(written.into_iter().map(|new| (action, new)));
    Ok(())
}

/// In the order that the API demands.
fn set_xml(xml: &mut String, set: &Set) {
    const INDENT: &str = "          ";
    xml.push_str("        <ResourceRecordSet>\n");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(xml, "{INDENT}<{name}>{}</{name}>", escape(value));
    };
    line("Name", set.name.as_str());
    line("Type", &set.rtype);
    if let Some((identifier, weight)) = &set.weighted {
        line("SetIdentifier", identifier);
        line("Weight", &weight.to_string());
    }
    if let Some(ttl) = set.ttl {
        line("TTL", &ttl.to_string());
    }
    let mut inner = String::new();
    if !set.values.is_empty() {
        let _ = writeln!(inner, "{INDENT}<ResourceRecords>");
        for value in &set.values {
            let value = escape(value);
            let _ = writeln!(inner, "{INDENT}  <ResourceRecord><Value>{value}</Value></ResourceRecord>");
        }
        let _ = writeln!(inner, "{INDENT}</ResourceRecords>");
    }
    if let Some(alias) = &set.alias {
        let _ = writeln!(
            inner,
            "{INDENT}<AliasTarget>\n{INDENT}  <HostedZoneId>{}</HostedZoneId>\n{INDENT}  <DNSName>{}</DNSName>\n\
             {INDENT}  <EvaluateTargetHealth>{}</EvaluateTargetHealth>\n{INDENT}</AliasTarget>",
            escape(&alias.zone_id),
            alias.name.as_str(),
            alias.evaluate_target_health
        );
    }
    xml.push_str(&inner);
    xml.push_str("        </ResourceRecordSet>\n");
}

fn set_json(set: &Set) -> Json {
    let mut json = serde_json::Map::new();
    let mut put = |key: &str, value: Json| json.insert(key.to_owned(), value);
    put("Name", json!(set.name.as_str()));
    put("Type", json!(set.rtype));
    if let Some((identifier, weight)) = &set.weighted {
        put("SetIdentifier", json!(identifier));
        put("Weight", json!(weight));
    }
    if let Some(ttl) = set.ttl {
        put("TTL", json!(ttl));
    }
    if !set.values.is_empty() {
        put("ResourceRecords", set.values.iter().map(|value| json!({ "Value": value })).collect());
    }
    if let Some(alias) = &set.alias {
        let target = json!({
            "HostedZoneId": alias.zone_id,
            "DNSName": alias.name.as_str(),
            "EvaluateTargetHealth": alias.evaluate_target_health,
        });
        put("AliasTarget", target);
    }
    Json::Object(json)
}
