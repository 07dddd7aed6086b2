//! Route 53's resource record sets: what they say about a record, and which ones a record needs.

use serde::{Deserialize, Serialize};

use crate::dns::listing::{self, ListedRecord};
use crate::dns::{
    Alias, DomainName, Observed, ObservedRecord, Record, RecordKey, RecordState, RecordType, SiblingRecord,
    Side, Target, Value, share,
};

const MAX_WEIGHT: u32 = 255;

/// The TTL that answers of an alias for a load balancer have; it cannot be set.
pub(super) const ALIAS_TTL: u32 = 60;

/// The marker is read through the API, so nobody needs to cache it.
pub(super) const MARKER_TTL: u32 = 10;

/// What the identifiers of our weighted sets begin with.
const PREFIX: &str = "kongferry-";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set {
    pub name: DomainName,
    #[serde(rename = "type")]
    pub rtype: String,
    /// Identifier and weight of a weighted set.
    pub weighted: Option<(String, u32)>,
    pub ttl: Option<u32>,
    pub values: Vec<String>,
    pub alias: Option<Alias>,
    /// What it has that we do not know how to write: a health check, another routing policy.
    pub unknown: Vec<String>,
}

impl Set {
    fn text(&self) -> String {
        let mut text = match &self.alias {
            Some(alias) => Value::Alias(alias.clone()).to_string(),
            None => self.values.join(", "),
        };
        if let Some((identifier, weight)) = &self.weighted {
            text = format!("{text} (\"{identifier}\", weight {weight})");
        }
        for unknown in &self.unknown {
            text = format!("{text} (with {unknown})");
        }
        text
    }

    /// What makes one of several sets of a name and type.
    pub(super) fn identifier(&self) -> Option<&str> {
        self.weighted.as_ref().map(|(identifier, _)| &**identifier)
    }

    fn parsed(&self, rtype: RecordType) -> Option<Vec<Value>> {
        let mut values = match &self.alias {
            Some(alias) => vec![Value::Alias(alias.clone())],
            None => {
                self.values.iter().map(|text| Value::parse(rtype, text).ok()).collect::<Option<Vec<_>>>()?
            }
        };
        values.sort();
        Some(values)
    }
}

/// A set for a first draft; none where clients do not go by it.
pub(super) fn listed(set: &Set) -> Option<ListedRecord> {
    if !listing::is_decisive(&set.rtype) {
        return None;
    }
    let weights =
        set.weighted.as_ref().map(|(identifier, _)| format!("it is the weighted set \"{identifier}\""));
    let unknown = (!set.unknown.is_empty()).then(|| format!("it has {}", set.unknown.join(" and ")));
    let values = match &set.alias {
        Some(alias) => vec![Value::Alias(alias.clone()).to_string()],
        None => set.values.iter().map(|value| value.trim_end_matches('.').to_owned()).collect(),
    };
    Some(ListedRecord {
        name: set.name.clone(),
        rtype: set.rtype.clone(),
        ttl: set.ttl.unwrap_or(ALIAS_TTL),
        values,
        obstacle: weights.or(unknown),
    })
}

/// The TXT set of the marker.
pub(super) fn marker(target: &Target, text: &str) -> Set {
    // Strings of a TXT record have 255 characters at most; the text is ASCII without quotes.
    let strings = text.as_bytes().chunks(255).map(|part| format!("\"{}\"", String::from_utf8_lossy(part)));
    Set {
        name: target.marker_name(),
        rtype: "TXT".to_owned(),
        weighted: None,
        ttl: Some(MARKER_TTL),
        values: vec![strings.collect::<Vec<_>>().join(" ")],
        alias: None,
        unknown: Vec::new(),
    }
}

/// The text of a TXT value: its strings, joined.
fn txt(value: &str) -> String {
    value.split('"').skip(1).step_by(2).collect()
}

/// The sets that a record in this state consists of. `None` when the weights do not fit.
pub(super) fn of_state(record: &Record, state: &RecordState, ttl: u32) -> Option<Vec<Set>> {
    let set = |values: &[Value], weighted: Option<(String, u32)>| {
        let alias = values.iter().find_map(|value| match value {
            Value::Alias(alias) => Some(alias.clone()),
            _ => None,
        });
        let texts =
            if alias.is_some() { Vec::new() } else { values.iter().map(ToString::to_string).collect() };
        Set {
            name: record.key.name.clone(),
            rtype: record.key.rtype.to_string(),
            weighted,
            ttl: alias.is_none().then_some(ttl),
            values: texts,
            alias,
            unknown: Vec::new(),
        }
    };
    match state {
        RecordState::Plain(side) => Some(vec![set(record.values(*side), None)]),
        RecordState::Split { blue, green } => {
            let (blue, green) = per_value(record, *blue, *green)?;
            // A weighted set holds one value.
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

/// The weight of each of blue's and of green's values, so that the sides have the shares of `blue` and `green`.
fn per_value(record: &Record, blue: u32, green: u32) -> Option<(u32, u32)> {
    let count = |side| u32::try_from(record.values(side).len()).ok();
    let (blue, green) = (blue.checked_mul(count(Side::Green)?)?, green.checked_mul(count(Side::Blue)?)?);
    let divisor = share::gcd(blue, green).max(1);
    let (blue, green) = (blue / divisor, green / divisor);
    // Where it can, a weight reads as per cent.
    let factor = if 100 % (blue + green).max(1) == 0 { 100 / (blue + green).max(1) } else { 1 };
    let (blue, green) = (blue * factor, green * factor);
    (blue <= MAX_WEIGHT && green <= MAX_WEIGHT).then_some((blue, green))
}

/// The TTL that will be read back: a record of aliases only has none of its own.
pub(super) fn effective_ttl(record: &Record, state: &RecordState, wanted: u32) -> u32 {
    let is_alias = |side| matches!(record.values(side), [Value::Alias(_)]);
    let aliases = match state {
        RecordState::Plain(side) => is_alias(*side),
        _ => is_alias(Side::Blue) && is_alias(Side::Green),
    };
    if aliases { ALIAS_TTL } else { wanted }
}

/// What the sets of the target's names, and those of the marker's name, say.
pub(super) fn observe(target: &Target, sets: &[Set]) -> Observed {
    let records = target.records().iter().map(|record| observe_record(target, record, sets)).collect();
    let name = target.marker_name();
    let marker = sets.iter().find(|set| set.name == name && set.rtype == "TXT");
    Observed::new(records, marker.and_then(|set| set.values.first()).map(|value| txt(value)))
}

fn observe_record(target: &Target, record: &Record, sets: &[Set]) -> ObservedRecord {
    let key = &record.key;
    let here: Vec<&Set> = sets.iter().filter(|set| is_of(set, key)).collect();
    let others = sets
        .iter()
        .filter(|set| set.name == key.name && !target.records().iter().any(|r| is_of(set, &r.key)));
    let decisive = others.filter(|set| matches!(&*set.rtype, "A" | "AAAA" | "CNAME" | "HTTPS"));
    let siblings = decisive.map(|set| SiblingRecord {
        rtype: set.rtype.clone(),
        ttl: set.ttl.unwrap_or(ALIAS_TTL),
        text: set.text(),
    });
    let ttl = here.iter().filter_map(|set| set.ttl).max();
    ObservedRecord {
        key: key.clone(),
        state: state(record, &here),
        ttl: if here.is_empty() { None } else { Some(ttl.unwrap_or(ALIAS_TTL)) },
        siblings: siblings.collect(),
        raw: serde_json::to_value(&here).unwrap_or_default(),
    }
}

fn is_of(set: &Set, key: &RecordKey) -> bool {
    set.name == key.name && set.rtype == key.rtype.as_str()
}

fn state(record: &Record, here: &[&Set]) -> RecordState {
    if here.is_empty() {
        return RecordState::Absent;
    }
    let foreign = || {
        let texts: Vec<String> = here.iter().map(|set| set.text()).collect();
        RecordState::Foreign(texts.join("; "))
    };
    if here.iter().any(|set| !set.unknown.is_empty()) {
        return foreign();
    }
    if let [only] = here
        && only.weighted.is_none()
    {
        let values = only.parsed(record.key.rtype);
        let side = [Side::Blue, Side::Green]
            .into_iter()
            .find(|&side| Some(record.values(side)) == values.as_deref());
        return side.map_or_else(foreign, RecordState::Plain);
    }
    split(record, here).unwrap_or_else(foreign)
}

/// The weights of both sides, if these are the very sets that we write for some weights.
fn split(record: &Record, here: &[&Set]) -> Option<RecordState> {
    let ttl = here.iter().filter_map(|set| set.ttl).max().unwrap_or(ALIAS_TTL);
    let weight = |side: Side| {
        let identifier = format!("{PREFIX}{side}-1");
        here.iter()
            .find(|set| set.identifier() == Some(&identifier))?
            .weighted
            .as_ref()
            .map(|(_, weight)| *weight)
    };
    let count = |side| u32::try_from(record.values(side).len()).ok();
    let blue = weight(Side::Blue)?.checked_mul(count(Side::Blue)?)?;
    let green = weight(Side::Green)?.checked_mul(count(Side::Green)?)?;
    let divisor = share::gcd(blue, green);
    if divisor == 0 {
        // All zero means all equally likely.
        return None;
    }
    let state = RecordState::Split { blue: blue / divisor, green: green / divisor };
    let mut expected = of_state(record, &state, ttl)?;
    // Other weights of the same proportion are as good.
    for set in &mut expected {
        let side =
            if set.identifier()?.starts_with(&format!("{PREFIX}blue")) { Side::Blue } else { Side::Green };
        let actual = weight(side)?;
        set.weighted.as_mut()?.1 = actual;
    }
    let same = expected.len() == here.len()
        && expected.iter().all(|set| {
            here.iter().any(|found| {
                found.weighted == set.weighted
                    && found.ttl == set.ttl
                    && found.parsed(record.key.rtype) == set.parsed(record.key.rtype)
            })
        });
    same.then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(blue: &[&str], green: &[&str]) -> Record {
        let texts = |given: &[&str]| given.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        Record::new("api.example.com".parse().unwrap(), RecordType::A, &texts(blue), &texts(green)).unwrap()
    }

    fn round_trip(record: &Record, blue: u32, green: u32) {
        let wanted = RecordState::Split { blue, green };
        let sets = of_state(record, &wanted, 30).unwrap();
        assert!(sets.iter().all(|set| set.weighted.as_ref().unwrap().1 <= 255));
        assert_eq!(state(record, &sets.iter().collect::<Vec<_>>()), wanted);
    }

    #[test]
    fn weights_come_back_for_any_number_of_values() {
        for (blue, green) in [(1, 0), (99, 1), (19, 1), (9, 1), (1, 1), (0, 1), (199, 1)] {
            round_trip(&record(&["192.0.2.1"], &["192.0.2.2"]), blue, green);
        }
        round_trip(&record(&["192.0.2.1", "192.0.2.3"], &["192.0.2.2"]), 99, 1);
        round_trip(&record(&["192.0.2.1", "192.0.2.3", "192.0.2.4"], &["192.0.2.2", "192.0.2.5"]), 9, 1);
    }

    #[test]
    fn one_per_cent_reads_as_99_and_1() {
        let sets =
            of_state(&record(&["192.0.2.1"], &["192.0.2.2"]), &RecordState::Split { blue: 99, green: 1 }, 30);
        let weights: Vec<_> = sets.unwrap().into_iter().filter_map(|set| set.weighted).collect();
        assert_eq!(weights, [("kongferry-blue-1".to_owned(), 99), ("kongferry-green-1".to_owned(), 1)]);
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let many: Vec<String> = (1..=9).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let record = record(&["198.51.100.1"], &many);
        assert_eq!(of_state(&record, &RecordState::Split { blue: 99, green: 1 }, 30), None);
    }

    #[test]
    fn what_is_not_exactly_ours_is_foreign() {
        let record = record(&["192.0.2.1"], &["192.0.2.2"]);
        let ours = of_state(&record, &RecordState::Split { blue: 99, green: 1 }, 30).unwrap();
        let changed: [fn(&mut Set); 5] = [
            |set| set.ttl = Some(31),
            |set| set.values = vec!["192.0.2.9".to_owned()],
            |set| set.weighted = Some(("other".to_owned(), 1)),
            |set| set.weighted = Some(("kongferry-blue-1".to_owned(), 0)),
            |set| set.unknown = vec!["a health check".to_owned()],
        ];
        for change in changed {
            let mut sets = ours.clone();
            change(&mut sets[1]);
            let state = state(&record, &sets.iter().collect::<Vec<_>>());
            assert!(matches!(state, RecordState::Foreign(_)), "{state:?}");
        }
        let both_zero: Vec<Set> = ours
            .iter()
            .cloned()
            .map(|mut set| {
                set.weighted.as_mut().unwrap().1 = 0;
                set
            })
            .collect();
        assert!(matches!(state(&record, &both_zero.iter().collect::<Vec<_>>()), RecordState::Foreign(_)));
    }

    #[test]
    fn an_alias_has_the_ttl_of_its_target() {
        let record = record(&["alias:ZONE1/blue.elb.example.com"], &["alias:ZONE1/green.elb.example.com"]);
        let state_of = |state: &RecordState| {
            let sets = of_state(&record, state, 300).unwrap();
            assert!(sets.iter().all(|set| set.ttl.is_none() && set.values.is_empty()));
            state_of_sets(&record, &sets)
        };
        let split = RecordState::Split { blue: 99, green: 1 };
        assert_eq!(state_of(&split), split);
        assert_eq!(state_of(&RecordState::Plain(Side::Green)), RecordState::Plain(Side::Green));
        assert_eq!(effective_ttl(&record, &split, 300), 60);
    }

    fn state_of_sets(record: &Record, sets: &[Set]) -> RecordState {
        state(record, &sets.iter().collect::<Vec<_>>())
    }
}
