//! One ChangeBatch: all changes of a write, as XML for the API and as JSON for `aws route53`.
//!
//! Route 53 makes all changes of a batch or none, and a DELETE must name the exact current values. Therefore DELETE and
//! CREATE in one batch are a compare-and-swap of the records and the marker. UPSERT overwrites any values.

use std::fmt::Write as _;

use quick_xml::escape::escape;
use serde_json::{Value as Json, json};

use super::error;
use super::record_sets::{self, ResourceRecordSet};
use crate::dns::change::{Plan, PlannedRecord};
use crate::dns::{DnsErrorKind, DnsResult, Precondition};

pub(super) const NAMESPACE: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeAction {
    Create,
    Delete,
    Upsert,
}

impl ChangeAction {
    fn as_str(self) -> &'static str {
        match self {
            ChangeAction::Create => "CREATE",
            ChangeAction::Delete => "DELETE",
            ChangeAction::Upsert => "UPSERT",
        }
    }
}

#[derive(Debug)]
pub(super) struct ChangeBatch {
    pub comment: String,
    pub changes: Vec<(ChangeAction, ResourceRecordSet)>,
}

impl ChangeBatch {
    /// Deletions come first, as the precondition, then the new sets.
    pub(super) fn new(plan: &Plan<'_>) -> DnsResult<ChangeBatch> {
        let Plan { target, before, desired, records } = plan;
        let mut changes = Vec::new();
        let old = before.marker_text.as_deref().map(|text| record_sets::marker(target, text));
        let new = plan.marker_text().map(|text| record_sets::marker(target, &text));
        match (desired.precondition, old, new) {
            (Precondition::Overwrite, _, Some(new)) => changes.push((ChangeAction::Upsert, new)),
            (_, old, new) => {
                changes.extend(old.map(|old| (ChangeAction::Delete, old)));
                changes.extend(new.map(|new| (ChangeAction::Create, new)));
            }
        }
        for PlannedRecord { record, before, state, ttl } in records {
            let found: Vec<ResourceRecordSet> =
                serde_json::from_value(before.raw.clone()).unwrap_or_default();
            let written = record_sets::for_state(record, state, *ttl).ok_or_else(|| {
                let message = format!(
                    "{} has too many values for weights of at most {}",
                    record.key,
                    record_sets::MAX_WEIGHT
                );
                error(DnsErrorKind::Unsupported, message)
            })?;
            replace(desired.precondition, found, written, &mut changes)?;
        }
        let comment = desired.marker.as_ref().map_or_else(
            || "kongferry: end of the cutover".to_owned(),
            |marker| format!("kongferry: {} to green, generation {}", marker.share, marker.generation),
        );
        Ok(ChangeBatch { comment, changes })
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

    /// For `aws route53 change-resource-record-sets --change-batch`.
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
    precondition: Precondition,
    found: Vec<ResourceRecordSet>,
    written: Vec<ResourceRecordSet>,
    changes: &mut Vec<(ChangeAction, ResourceRecordSet)>,
) -> DnsResult<()> {
    // An UPSERT replaces a set with the same identifier. Others must be deleted: Route 53 refuses weighted sets beside
    // a simple one.
    let upserts = precondition == Precondition::Overwrite;
    for old in found {
        if upserts && written.iter().any(|new| new.identifier() == old.identifier()) {
            continue;
        }
        if let Some(feature) = old.unsupported.first() {
            let message = format!("{}/{} has {feature}, which kongferry cannot restore", old.name, old.rtype);
            return Err(error(DnsErrorKind::Conflict, message));
        }
        changes.push((ChangeAction::Delete, old));
    }
    let action = if upserts { ChangeAction::Upsert } else { ChangeAction::Create };
    changes.extend(written.into_iter().map(|new| (action, new)));
    Ok(())
}

/// In the order that the API requires.
fn set_xml(xml: &mut String, set: &ResourceRecordSet) {
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
    if !set.values.is_empty() {
        let _ = writeln!(xml, "{INDENT}<ResourceRecords>");
        for value in &set.values {
            let value = escape(value);
            let _ = writeln!(xml, "{INDENT}  <ResourceRecord><Value>{value}</Value></ResourceRecord>");
        }
        let _ = writeln!(xml, "{INDENT}</ResourceRecords>");
    }
    if let Some(alias) = &set.alias {
        let _ = writeln!(
            xml,
            "{INDENT}<AliasTarget>\n{INDENT}  <HostedZoneId>{}</HostedZoneId>\n{INDENT}  <DNSName>{}</DNSName>\n\
             {INDENT}  <EvaluateTargetHealth>{}</EvaluateTargetHealth>\n{INDENT}</AliasTarget>",
            escape(&alias.zone_id),
            alias.name.as_str(),
            alias.evaluate_target_health
        );
    }
    xml.push_str("        </ResourceRecordSet>\n");
}

fn set_json(set: &ResourceRecordSet) -> Json {
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
