//! One change: everything that one atomic write does, known before it is sent.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::update::DnsUpdate;
use super::{
    Desired, DnsError, DnsErrorKind, DnsResult, Observed, ObservedRecord, Precondition, Record, RecordForm,
    RecordState,
};
use super::{Share, Target, Ttl, Value, Weights};

/// A planned write. It holds no credential and can be journaled, printed and sent later, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The same for the same run and generation, so that a provider may recognise a repetition.
    pub id: String,
    pub target: Target,
    /// What stood there when it was planned.
    pub before: Observed,
    pub desired: Desired,
    /// What will be read when it has been carried out. `version` is meaningless here for providers with a version of
    /// their own. Planning the next step from this is how `cutover plan` shows all steps without sending one.
    pub after: Observed,
    pub request: Request,
}

/// One request as it is sent, save for the credentials. [`Display`](fmt::Display) shows all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Http {
        method: String,
        url: String,
        /// Headers without the credentials; those are shown as what they are.
        headers: Vec<(String, String)>,
        body: String,
    },
    /// One DNS UPDATE message, shown in the language of `nsupdate`.
    Update(DnsUpdate),
    /// One call of the user's program.
    Program {
        command: Vec<String>,
        /// What it reads on its standard input.
        input: serde_json::Value,
    },
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Http { method, url, headers, body } => {
                writeln!(f, "{method} {url}")?;
                for (name, value) in headers {
                    writeln!(f, "{name}: {value}")?;
                }
                write!(f, "\n{body}")
            }
            Request::Update(update) => update.fmt(f),
            Request::Program { command, input } => {
                writeln!(f, "$ {}", command.join(" "))?;
                f.write_str(&serde_json::to_string_pretty(input).map_err(|_| fmt::Error)?)
            }
        }
    }
}

/// Whether a change was carried out, judged by what is read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    Applied,
    /// Records and marker are as before.
    NotApplied,
    /// Neither the one nor the other: another writer changed them.
    Conflicting,
}

impl Change {
    /// Judges, from what is read now, whether this change was carried out: after a time-out, or a crash between
    /// intent and result.
    pub fn outcome(&self, now: &Observed) -> WriteOutcome {
        if now.matches(&self.after) {
            WriteOutcome::Applied
        } else if now.matches(&self.before) {
            WriteOutcome::NotApplied
        } else {
            WriteOutcome::Conflicting
        }
    }
}

/// What provider-independent planning found: each record with the state and the TTL that it shall have.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub record: &'a Record,
    pub before: &'a ObservedRecord,
    pub state: RecordState,
    pub ttl: u32,
}

/// The part of planning that is the same everywhere. `before` must be of `target`. Weights are in lowest terms; the
/// provider scales them.
pub(super) fn wanted<'a>(
    provider: &'static str,
    weights: &Weights,
    min_ttl: u32,
    target: &'a Target,
    before: &'a Observed,
    desired: &Desired,
) -> DnsResult<Vec<Wanted<'a>>> {
    let unsupported = |message: String| DnsError::new(provider, DnsErrorKind::Unsupported, message);
    check_generation(provider, before, desired)?;
    let mut all = Vec::with_capacity(target.records().len());
    for record in target.records() {
        let key = &record.key;
        let found = before.record(key).ok_or_else(|| unsupported(format!("{key} was not read")))?;
        let ttl = ttl_of(found, &desired.ttl).ok_or_else(|| {
            unsupported(format!("{key} does not exist yet, so it needs a TTL to be made with"))
        })?;
        if ttl < min_ttl {
            return Err(unsupported(format!(
                "{key}: a TTL of {ttl} s is below the provider's least, {min_ttl} s"
            )));
        }
        let state = match desired.form {
            RecordForm::AsFound => found.state.clone(),
            RecordForm::Plain(side) => RecordState::Plain(side),
            RecordForm::Split(share) => split(weights, share).ok_or_else(|| {
                unsupported(format!("{key} cannot be split {share} to green: {}", weights.limits()))
            })?,
        };
        refuse_what_is_not_ours(provider, found, &state, desired)?;
        all.push(Wanted { record, before: found, state, ttl });
    }
    Ok(all)
}

fn check_generation(provider: &'static str, before: &Observed, desired: &Desired) -> DnsResult<()> {
    let Some(new) = &desired.marker else { return Ok(()) };
    if desired.precondition == Precondition::Unchanged && new.generation <= before.generation() {
        let message = format!(
            "generation {} is already written; a new change needs a higher one than {}",
            before.generation(),
            new.generation
        );
        return Err(DnsError::new(provider, DnsErrorKind::Conflict, message));
    }
    Ok(())
}

fn refuse_what_is_not_ours(
    provider: &'static str,
    found: &ObservedRecord,
    wanted: &RecordState,
    desired: &Desired,
) -> DnsResult<()> {
    let key = &found.key;
    let conflict = |message| Err(DnsError::new(provider, DnsErrorKind::Conflict, message));
    match (&found.state, wanted) {
        (_, RecordState::Absent) => conflict(format!("{key} does not exist at the provider")),
        (_, RecordState::Foreign(text)) => {
            conflict(format!("{key} is not what cutover.toml says: at the provider stands {text}"))
        }
        (RecordState::Foreign(text), _) if desired.precondition == Precondition::Unchanged => {
            conflict(format!("{key} is not what cutover.toml says: at the provider stands {text}"))
        }
        (RecordState::Absent, _) if desired.precondition == Precondition::Unchanged => {
            conflict(format!("{key} does not exist at the provider"))
        }
        _ => Ok(()),
    }
}

fn ttl_of(found: &ObservedRecord, wanted: &Ttl) -> Option<u32> {
    match wanted {
        Ttl::AsFound => found.ttl,
        Ttl::All(ttl) => Some(*ttl),
        Ttl::Each(list) => list.iter().find(|one| one.key == found.key).map(|one| one.ttl).or(found.ttl),
    }
}

fn split(weights: &Weights, share: Share) -> Option<RecordState> {
    let (blue, green) = share.weights();
    match weights {
        Weights::Whole { max_sum } if blue + green <= *max_sum => Some(RecordState::Split { blue, green }),
        Weights::Whole { .. } => None,
        Weights::SwitchOnly if share == Share::BLUE => Some(RecordState::Plain(super::Side::Blue)),
        Weights::SwitchOnly if share == Share::GREEN => Some(RecordState::Plain(super::Side::Green)),
        Weights::SwitchOnly => None,
    }
}

/// What will be read after the change: the wanted records and the new marker.
fn after(wanted: &[Wanted<'_>], desired: &Desired) -> Observed {
    let records = wanted.iter().map(|one| ObservedRecord {
        key: one.record.key.clone(),
        state: one.state.clone(),
        ttl: Some(one.ttl),
        siblings: one.before.siblings.clone(),
        raw: one.before.raw.clone(),
    });
    Observed::new(records.collect(), desired.marker.as_ref().map(super::Marker::to_text))
}

/// The change as it is returned by a provider's plan.
pub(super) fn planned(
    target: &Target,
    before: &Observed,
    desired: &Desired,
    wanted: &[Wanted<'_>],
    request: Request,
) -> Change {
    Change {
        id: id(before, desired),
        target: target.clone(),
        before: before.clone(),
        desired: desired.clone(),
        after: after(wanted, desired),
        request,
    }
}

/// The target as it is known to somebody who can read nothing: what an overwriting plan begins with.
pub(super) fn unread(target: &Target) -> Observed {
    let records = target.records().iter().map(|record| ObservedRecord {
        key: record.key.clone(),
        state: RecordState::Absent,
        ttl: None,
        siblings: Vec::new(),
        raw: serde_json::Value::Null,
    });
    Observed::new(records.collect(), None)
}

/// Blue's records over whatever stands there.
pub(super) fn blue_again(form: RecordForm, ttl: u32) -> Desired {
    Desired { form, ttl: Ttl::All(ttl), marker: None, precondition: Precondition::Overwrite }
}

pub(super) fn refuse_aliases(provider: &'static str, target: &Target) -> DnsResult<()> {
    for record in target.records() {
        if record.blue.iter().chain(&record.green).any(|value| matches!(value, Value::Alias(_))) {
            let message = format!("{}: it has no aliases; give addresses, or a CNAME", record.key);
            return Err(DnsError::new(provider, DnsErrorKind::Unsupported, message));
        }
    }
    Ok(())
}

/// The id of a change: run and generation, or for the last one, which removes the marker, those that it removes.
pub(super) fn id(before: &Observed, desired: &Desired) -> String {
    match (&desired.marker, &before.marker) {
        (Some(new), _) => format!("{}-{}", new.run, new.generation),
        (None, Some(old)) => format!("{}-{}-end", old.run, old.generation),
        (None, None) => format!("{}-end", before.version.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DomainName, Marker, OriginalTtl, RecordKey, RecordType, Side};
    use super::*;

    const WHOLE: Weights = Weights::Whole { max_sum: 256 };

    fn target() -> Target {
        let (blue, green) = (["192.0.2.1".to_owned()], ["192.0.2.2".to_owned()]);
        let name: DomainName = "api.example.com".parse().unwrap();
        let record = Record::new(name, RecordType::A, &blue, &green).unwrap();
        Target::new("example.com".parse().unwrap(), vec![record]).unwrap()
    }

    fn key() -> RecordKey {
        target().records()[0].key.clone()
    }

    fn observed(state: RecordState, ttl: Option<u32>, marker: Option<&Marker>) -> Observed {
        let raw = serde_json::Value::Null;
        let record = ObservedRecord { key: key(), state, ttl, siblings: Vec::new(), raw };
        Observed::new(vec![record], marker.map(Marker::to_text))
    }

    fn marker(generation: u64) -> Marker {
        let time = "2026-11-24T01:00:00Z".parse().unwrap();
        Marker {
            run: uuid::Uuid::from_u128(1),
            generation,
            state: "step".to_owned(),
            step: 0,
            share: Share::BLUE,
            started_at: time,
            written_at: time,
            owner: "anna".to_owned(),
            lease_until: None,
            originals: Vec::new(),
            note: String::new(),
        }
    }

    fn desired(form: RecordForm, ttl: Ttl, generation: u64, precondition: Precondition) -> Desired {
        Desired { form, ttl, marker: Some(marker(generation)), precondition }
    }

    fn result(weights: &Weights, before: &Observed, desired: &Desired) -> DnsResult<(RecordState, u32)> {
        let target = target();
        let wanted = wanted("test", weights, 5, &target, before, desired)?;
        Ok((wanted[0].state.clone(), wanted[0].ttl))
    }

    fn kind(weights: &Weights, before: &Observed, desired: &Desired) -> DnsErrorKind {
        result(weights, before, desired).unwrap_err().kind
    }

    #[test]
    fn a_provider_without_weights_switches_or_refuses() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), None);
        let to = |share| desired(RecordForm::Split(share), Ttl::AsFound, 1, Precondition::Unchanged);
        let one = Share::percent(1).unwrap();
        let switched = result(&Weights::SwitchOnly, &before, &to(Share::GREEN)).unwrap();
        assert_eq!(switched, (RecordState::Plain(Side::Green), 300));
        assert_eq!(kind(&Weights::SwitchOnly, &before, &to(one)), DnsErrorKind::Unsupported);
        let split = result(&WHOLE, &before, &to(one)).unwrap();
        assert_eq!(split, (RecordState::Split { blue: 99, green: 1 }, 300));
        let too_fine = to(Share::basis_points(1).unwrap());
        assert_eq!(kind(&WHOLE, &before, &too_fine), DnsErrorKind::Unsupported);
    }

    #[test]
    fn a_generation_is_written_once_save_by_a_rollback() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), Some(&marker(4)));
        let write =
            |generation, precondition| desired(RecordForm::AsFound, Ttl::AsFound, generation, precondition);
        assert_eq!(kind(&WHOLE, &before, &write(4, Precondition::Unchanged)), DnsErrorKind::Conflict);
        assert!(result(&WHOLE, &before, &write(5, Precondition::Unchanged)).is_ok());
        assert!(result(&WHOLE, &before, &write(2, Precondition::Overwrite)).is_ok());
    }

    #[test]
    fn what_is_not_ours_is_overwritten_by_a_rollback_only() {
        for state in [RecordState::Absent, RecordState::Foreign("192.0.2.9".to_owned())] {
            let before = observed(state, None, None);
            let write = |form, precondition| desired(form, Ttl::All(30), 1, precondition);
            let split = RecordForm::Split(Share::BLUE);
            assert_eq!(kind(&WHOLE, &before, &write(split, Precondition::Unchanged)), DnsErrorKind::Conflict);
            assert!(result(&WHOLE, &before, &write(split, Precondition::Overwrite)).is_ok());
            assert_eq!(
                kind(&WHOLE, &before, &write(RecordForm::AsFound, Precondition::Overwrite)),
                DnsErrorKind::Conflict
            );
            let without_ttl = desired(split, Ttl::AsFound, 1, Precondition::Overwrite);
            assert_eq!(kind(&WHOLE, &before, &without_ttl), DnsErrorKind::Unsupported);
        }
    }

    #[test]
    fn each_record_gets_its_own_ttl_back() {
        let before = observed(RecordState::Plain(Side::Blue), Some(30), None);
        let with = |ttl| desired(RecordForm::AsFound, ttl, 1, Precondition::Unchanged);
        let each = |ttl| Ttl::Each(vec![OriginalTtl { key: key(), ttl }]);
        assert_eq!(result(&WHOLE, &before, &with(each(3600))).unwrap().1, 3600);
        assert_eq!(result(&WHOLE, &before, &with(Ttl::Each(Vec::new()))).unwrap().1, 30);
        assert_eq!(kind(&WHOLE, &before, &with(Ttl::All(1))), DnsErrorKind::Unsupported);
    }

    #[test]
    fn what_became_of_a_change_is_seen_from_what_is_read() {
        let (target, before) = (target(), observed(RecordState::Plain(Side::Blue), Some(300), None));
        let desired = desired(RecordForm::Split(Share::GREEN), Ttl::All(30), 1, Precondition::Unchanged);
        let wanted = wanted("test", &WHOLE, 0, &target, &before, &desired).unwrap();
        let request = Request::Program { command: Vec::new(), input: serde_json::Value::Null };
        let change = planned(&target, &before, &desired, &wanted, request);
        assert_eq!(change.outcome(&before), WriteOutcome::NotApplied);
        // As it is stored, with other weights of the same proportion.
        let stored = observed(RecordState::Split { blue: 0, green: 100 }, Some(30), Some(&marker(1)));
        assert_eq!(change.outcome(&stored), WriteOutcome::Applied);
        let others = observed(RecordState::Split { blue: 0, green: 100 }, Some(30), Some(&marker(2)));
        assert_eq!(change.outcome(&others), WriteOutcome::Conflicting);
    }

    #[test]
    fn a_change_of_an_older_journal_is_read() {
        let (target, before) = (target(), observed(RecordState::Plain(Side::Blue), Some(300), None));
        let desired = desired(RecordForm::AsFound, Ttl::AsFound, 1, Precondition::Unchanged);
        let wanted = wanted("test", &WHOLE, 0, &target, &before, &desired).unwrap();
        let request = Request::Program { command: Vec::new(), input: serde_json::Value::Null };
        let change = planned(&target, &before, &desired, &wanted, request);
        let written = serde_json::to_string(&change).unwrap();
        let older =
            written.replace("\"precondition\"", "\"guard\"").replace("\"siblings\"", "\"neighbours\"");
        assert_ne!(written, older);
        assert_eq!(serde_json::from_str::<Change>(&older).unwrap(), change);
    }
}
