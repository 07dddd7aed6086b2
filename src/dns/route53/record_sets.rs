//! Route 53's resource record sets: read as the state of a record, and made for a state.

use serde::{Deserialize, Serialize};

use crate::dns::listing::{self, ListedRecord};
use crate::dns::marker::txt_strings;
use crate::dns::{
    Alias, DomainName, Observed, ObservedRecord, Record, RecordState, RecordType, SiblingRecord, Side,
    Target, Value, share,
};

pub(super) const MAX_WEIGHT: u32 = 255;

/// Of answers of an alias for a load balancer, in seconds; it cannot be set.
pub(super) const ALIAS_TTL: u32 = 60;

/// In seconds. The marker is read through the API, so caches have no use for it.
pub(super) const MARKER_TTL: u32 = 10;

/// The prefix of the identifiers of kongferry's weighted sets.
const PREFIX: &str = "kongferry-";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ResourceRecordSet {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub rtype: String,
    /// Identifier and weight.
    pub weighted: Option<(String, u32)>,
    pub ttl: Option<u32>,
    pub values: Vec<String>,
    pub alias: Option<Alias>,
    /// Features that kongferry cannot write: a health check, another routing policy.
    #[serde(alias = "unknown")]
    pub unsupported: Vec<String>,
}

impl ResourceRecordSet {
    fn text(&self) -> String {
        let mut text = match &self.alias {
            Some(alias) => Value::Alias(alias.clone()).to_string(),
            None => self.values.join(", "),
        };
        if let Some((identifier, weight)) = &self.weighted {
            text = format!("{text} (\"{identifier}\", weight {weight})");
        }
        for feature in &self.unsupported {
            text = format!("{text} (with {feature})");
        }
        text
    }

    /// Distinguishes the sets of one name and type.
    pub(super) fn identifier(&self) -> Option<&str> {
        self.weighted.as_ref().map(|(identifier, _)| &**identifier)
    }

    fn parsed(&self, rtype: RecordType) -> Option<Vec<Value>> {
        match &self.alias {
            Some(alias) => Some(vec![Value::Alias(alias.clone())]),
            None => self.values.iter().map(|text| Value::parse(rtype, text).ok()).collect(),
        }
    }
}

/// For `list`; `None` for types that do not route clients.
pub(super) fn listed(set: &ResourceRecordSet) -> Option<ListedRecord> {
    if !listing::is_routing_type(&set.rtype) {
        return None;
    }
    let weights =
        set.weighted.as_ref().map(|(identifier, _)| format!("it is the weighted set \"{identifier}\""));
    let unsupported =
        (!set.unsupported.is_empty()).then(|| format!("it has {}", set.unsupported.join(" and ")));
    let values = match &set.alias {
        Some(alias) => vec![Value::Alias(alias.clone()).to_string()],
        None => set.values.iter().map(|value| value.trim_end_matches('.').to_owned()).collect(),
    };
    Some(ListedRecord {
        name: set.name.clone(),
        rtype: set.rtype.clone(),
        ttl: set.ttl.unwrap_or(ALIAS_TTL),
        values,
        obstacle: weights.or(unsupported),
    })
}

pub(super) fn marker(target: &Target, text: &str) -> ResourceRecordSet {
    let strings = txt_strings(text).map(|string| format!("\"{string}\""));
    ResourceRecordSet {
        name: target.marker_name(),
        rtype: "TXT".to_owned(),
        weighted: None,
        ttl: Some(MARKER_TTL),
        values: vec![strings.collect::<Vec<_>>().join(" ")],
        alias: None,
        unsupported: Vec::new(),
    }
}

/// The concatenated strings of a TXT value.
fn txt_text(value: &str) -> String {
    value.split('"').skip(1).step_by(2).collect()
}

/// `None` if the weights exceed [`MAX_WEIGHT`].
pub(super) fn for_state(record: &Record, state: &RecordState, ttl: u32) -> Option<Vec<ResourceRecordSet>> {
    let set = |values: &[Value], weighted: Option<(String, u32)>| {
        let alias = values.iter().find_map(|value| match value {
            Value::Alias(alias) => Some(alias.clone()),
            _ => None,
        });
        let texts =
            if alias.is_some() { Vec::new() } else { values.iter().map(ToString::to_string).collect() };
        ResourceRecordSet {
            name: record.key.name.clone(),
            rtype: record.key.rtype.to_string(),
            weighted,
            ttl: alias.is_none().then_some(ttl),
            values: texts,
            alias,
            unsupported: Vec::new(),
        }
    };
    match state {
        RecordState::Plain(side) => Some(vec![set(record.values(*side), None)]),
        RecordState::Split { blue, green } => {
            let (blue, green) = per_value(record, *blue, *green)?;
            // A weighted set has one value.
            let sets = [(Side::Blue, blue), (Side::Green, green)].into_iter().flat_map(|(side, weight)| {
                let values = record.values(side).iter().enumerate();
                values.map(move |(number, value)| (value, format!("{PREFIX}{side}-{}", number + 1), weight))
            });
            Some(
                sets.map(|(value, id, weight)| set(std::slice::from_ref(value), Some((id, weight))))
                    .collect(),
            )
        }
        RecordState::Absent | RecordState::Foreign(_) => None,
    }
}

/// The weights of one value of blue and of one of green, so that the sides have the proportion of `blue` and `green`.
fn per_value(record: &Record, blue: u32, green: u32) -> Option<(u32, u32)> {
    let count = |side| u32::try_from(record.values(side).len()).ok();
    let (blue, green) = (blue.checked_mul(count(Side::Green)?)?, green.checked_mul(count(Side::Blue)?)?);
    let divisor = share::gcd(blue, green).max(1);
    let (blue, green) = (blue / divisor, green / divisor);
    // Per cent where possible.
    let sum = (blue + green).max(1);
    let factor = if 100 % sum == 0 { 100 / sum } else { 1 };
    let (blue, green) = (blue * factor, green * factor);
    (blue <= MAX_WEIGHT && green <= MAX_WEIGHT).then_some((blue, green))
}

/// The TTL that is read after the write: a record of aliases has none of its own.
pub(super) fn effective_ttl(record: &Record, state: &RecordState, ttl: u32) -> u32 {
    let is_alias = |side| matches!(record.values(side), [Value::Alias(_)]);
    let has_only_aliases = match state {
        RecordState::Plain(side) => is_alias(*side),
        _ => is_alias(Side::Blue) && is_alias(Side::Green),
    };
    if has_only_aliases { ALIAS_TTL } else { ttl }
}

/// `sets`: those of the target's names and of the marker's.
pub(super) fn observe(target: &Target, sets: &[ResourceRecordSet]) -> Observed {
    let records = target.records().iter().map(|record| observe_record(target, record, sets)).collect();
    let name = target.marker_name();
    let marker = sets.iter().find(|set| set.name == name && set.rtype == "TXT");
    Observed::new(records, marker.and_then(|set| set.values.first()).map(|value| txt_text(value)))
}

fn observe_record(target: &Target, record: &Record, sets: &[ResourceRecordSet]) -> ObservedRecord {
    let key = &record.key;
    let of_record: Vec<&ResourceRecordSet> =
        sets.iter().filter(|set| set.name == key.name && set.rtype == key.rtype.as_str()).collect();
    let siblings = sets.iter().filter(|set| {
        set.name == key.name
            && !target.contains(&set.name, &set.rtype)
            && matches!(&*set.rtype, "A" | "AAAA" | "CNAME" | "HTTPS")
    });
    let siblings = siblings.map(|set| SiblingRecord {
        rtype: set.rtype.clone(),
        ttl: set.ttl.unwrap_or(ALIAS_TTL),
        text: set.text(),
    });
    ObservedRecord {
        key: key.clone(),
        state: state(record, &of_record),
        ttl: of_record.iter().map(|set| set.ttl.unwrap_or(ALIAS_TTL)).max(),
        siblings: siblings.collect(),
        raw: serde_json::to_value(&of_record).unwrap_or_default(),
    }
}

fn state(record: &Record, sets: &[&ResourceRecordSet]) -> RecordState {
    let known = match sets {
        [] => Some(RecordState::Absent),
        _ if sets.iter().any(|set| !set.unsupported.is_empty()) => None,
        [set] if set.weighted.is_none() => {
            set.parsed(record.key.rtype).and_then(|values| record.side_of(values)).map(RecordState::Plain)
        }
        _ => split(record, sets),
    };
    known.unwrap_or_else(|| {
        let texts: Vec<String> = sets.iter().map(|set| set.text()).collect();
        RecordState::Foreign(texts.join("; "))
    })
}

/// The weights of both sides, if these are exactly the sets that [`for_state`] makes for some weights.
fn split(record: &Record, sets: &[&ResourceRecordSet]) -> Option<RecordState> {
    let ttl = sets.iter().filter_map(|set| set.ttl).max().unwrap_or(ALIAS_TTL);
    let weight = |side: Side| {
        let identifier = format!("{PREFIX}{side}-1");
        let set = sets.iter().find(|set| set.identifier() == Some(&identifier))?;
        set.weighted.as_ref().map(|(_, weight)| *weight)
    };
    let count = |side| u32::try_from(record.values(side).len()).ok();
    let blue = weight(Side::Blue)?.checked_mul(count(Side::Blue)?)?;
    let green = weight(Side::Green)?.checked_mul(count(Side::Green)?)?;
    let divisor = share::gcd(blue, green);
    if divisor == 0 {
        // With all weights 0, Route 53 answers with every set equally.
        return None;
    }
    let state = RecordState::Split { blue: blue / divisor, green: green / divisor };
    let mut expected = for_state(record, &state, ttl)?;
    // Other weights of the same proportion are equivalent.
    for set in &mut expected {
        let side =
            if set.identifier()?.starts_with(&format!("{PREFIX}blue")) { Side::Blue } else { Side::Green };
        let actual = weight(side)?;
        set.weighted.as_mut()?.1 = actual;
    }
    let equal = |left: &ResourceRecordSet, right: &ResourceRecordSet| {
        left.weighted == right.weighted
            && left.ttl == right.ttl
            && left.parsed(record.key.rtype) == right.parsed(record.key.rtype)
    };
    let is_expected =
        expected.len() == sets.len() && expected.iter().all(|set| sets.iter().any(|found| equal(found, set)));
    is_expected.then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::target;

    fn record(blue: &[&str], green: &[&str]) -> Record {
        target::tests::record(RecordType::A, blue, green)
    }

    fn round_trip(record: &Record, blue: u32, green: u32) {
        let split = RecordState::Split { blue, green };
        let sets = for_state(record, &split, 30).unwrap();
        assert!(sets.iter().all(|set| set.weighted.as_ref().unwrap().1 <= 255));
        assert_eq!(state_of(record, &sets), split);
    }

    #[test]
    fn weights_survive_for_any_number_of_values() {
        for (blue, green) in [(1, 0), (99, 1), (19, 1), (9, 1), (1, 1), (0, 1), (199, 1)] {
            round_trip(&record(&["192.0.2.1"], &["192.0.2.2"]), blue, green);
        }
        round_trip(&record(&["192.0.2.1", "192.0.2.3"], &["192.0.2.2"]), 99, 1);
        round_trip(&record(&["192.0.2.1", "192.0.2.3", "192.0.2.4"], &["192.0.2.2", "192.0.2.5"]), 9, 1);
    }

    #[test]
    fn one_per_cent_is_written_as_99_and_1() {
        let sets = for_state(
            &record(&["192.0.2.1"], &["192.0.2.2"]),
            &RecordState::Split { blue: 99, green: 1 },
            30,
        );
        let weights: Vec<_> = sets.unwrap().into_iter().filter_map(|set| set.weighted).collect();
        assert_eq!(weights, [("kongferry-blue-1".to_owned(), 99), ("kongferry-green-1".to_owned(), 1)]);
    }

    #[test]
    fn weights_above_255_are_refused() {
        let many: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let record = record(&["198.51.100.1"], &many);
        assert_eq!(for_state(&record, &RecordState::Split { blue: 99, green: 1 }, 30), None);
    }

    #[test]
    fn sets_with_any_difference_are_foreign() {
        let record = record(&["192.0.2.1"], &["192.0.2.2"]);
        let expected = for_state(&record, &RecordState::Split { blue: 99, green: 1 }, 30).unwrap();
        let changed: [fn(&mut ResourceRecordSet); 5] = [
            |set| set.ttl = Some(31),
            |set| set.values = vec!["192.0.2.9".to_owned()],
            |set| set.weighted = Some(("other".to_owned(), 1)),
            |set| set.weighted = Some(("kongferry-blue-1".to_owned(), 0)),
            |set| set.unsupported = vec!["a health check".to_owned()],
        ];
        for change in changed {
            let mut sets = expected.clone();
            change(&mut sets[1]);
            let state = state_of(&record, &sets);
            assert!(matches!(state, RecordState::Foreign(_)), "{state:?}");
        }
        let both_zero: Vec<ResourceRecordSet> = expected
            .iter()
            .cloned()
            .map(|mut set| {
                set.weighted.as_mut().unwrap().1 = 0;
                set
            })
            .collect();
        assert!(matches!(state_of(&record, &both_zero), RecordState::Foreign(_)));
    }

    #[test]
    fn an_alias_has_the_ttl_of_its_target() {
        let record = record(&["alias:ZONE1/blue.elb.example.com"], &["alias:ZONE1/green.elb.example.com"]);
        let split = RecordState::Split { blue: 99, green: 1 };
        for state in [&split, &RecordState::Plain(Side::Green)] {
            let sets = for_state(&record, state, 300).unwrap();
            assert!(sets.iter().all(|set| set.ttl.is_none() && set.values.is_empty()));
            assert_eq!(state_of(&record, &sets), *state);
        }
        assert_eq!(effective_ttl(&record, &split, 300), 60);
    }

    fn state_of(record: &Record, sets: &[ResourceRecordSet]) -> RecordState {
        state(record, &sets.iter().collect::<Vec<_>>())
    }
}
