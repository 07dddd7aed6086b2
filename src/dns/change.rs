//! One change: everything that one atomic write does, known before it is sent.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::update::DnsUpdate;
use super::{
    Capabilities, Desired, DnsError, DnsErrorKind, DnsResult, Marker, Observed, ObservedRecord, Precondition,
    Record, RecordForm, RecordKey, RecordState, Share, Side, Target, Ttl, Weights,
};

/// A planned write. It holds no credential and can be journaled, printed and sent later, unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The same for the same run and generation, so that a provider can recognise a repeated request.
    pub id: String,
    pub target: Target,
    /// The records when the change was planned.
    pub before: Observed,
    pub desired: Desired,
    /// The records after the write, from which `cutover plan` plans the next step. `version` is not meaningful for
    /// providers with versions of their own.
    pub after: Observed,
    pub request: Request,
}

/// One request as it is sent, without the credentials. [`Display`](fmt::Display) shows all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Http {
        method: String,
        url: String,
        /// A credential is replaced by its source.
        headers: Vec<(String, String)>,
        body: String,
    },
    /// One DNS UPDATE message, shown as a script for `nsupdate`.
    Update(DnsUpdate),
    /// One call of the user's program.
    Program {
        command: Vec<String>,
        /// Its standard input.
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

/// Whether a change was carried out, judged by the records that are read afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteOutcome {
    Applied,
    /// Records and marker are as before.
    NotApplied,
    /// Neither: another client changed them.
    Conflicting,
}

impl Change {
    /// URL and body of an HTTP request.
    pub(super) fn http(&self, provider: &'static str) -> DnsResult<(&str, &str)> {
        match &self.request {
            Request::Http { url, body, .. } => Ok((url, body)),
            Request::Update(_) | Request::Program { .. } => Err(planned_for_another(provider)),
        }
    }

    /// Judges by the records that are read now whether this change was carried out: after a timeout, or a crash
    /// between intent and result.
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

pub(super) fn planned_for_another(provider: &'static str) -> DnsError {
    let message = "the change was planned for a provider of another kind";
    DnsError::new(provider, DnsErrorKind::Unsupported, message)
}

/// One record of a change, with its state and TTL after the write.
#[derive(Debug)]
pub(super) struct PlannedRecord<'a> {
    pub record: &'a Record,
    pub before: &'a ObservedRecord,
    pub state: RecordState,
    pub ttl: u32,
}

/// A change without its request: what the providers' planning has in common. Weights are in lowest terms.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub target: &'a Target,
    pub before: &'a Observed,
    pub desired: &'a Desired,
    pub records: Vec<PlannedRecord<'a>>,
}

impl<'a> Plan<'a> {
    /// `before` must be of `target`.
    pub(super) fn new(
        provider: &'static str,
        caps: &Capabilities,
        target: &'a Target,
        before: &'a Observed,
        desired: &'a Desired,
    ) -> DnsResult<Plan<'a>> {
        let unsupported = |message: String| DnsError::new(provider, DnsErrorKind::Unsupported, message);
        check_generation(provider, before, desired)?;
        let mut records = Vec::with_capacity(target.records().len());
        for record in target.records() {
            let key = &record.key;
            let found = before.record(key).ok_or_else(|| unsupported(format!("{key} was not read")))?;
            let ttl = desired.ttl.for_record(found).ok_or_else(|| {
                unsupported(format!(
                    "{key} does not exist, so the change must give the TTL of the new record"
                ))
            })?;
            if ttl < caps.min_ttl {
                let min_ttl = caps.min_ttl;
                let message =
                    format!("{key}: a TTL of {ttl} s is below the provider's minimum of {min_ttl} s");
                return Err(unsupported(message));
            }
            let state = match desired.form {
                RecordForm::AsFound => found.state.clone(),
                RecordForm::Plain(side) => RecordState::Plain(side),
                RecordForm::Split(share) => split(&caps.weights, share).ok_or_else(|| {
                    unsupported(format!(
                        "the provider cannot send {share} of {key} to green: {}",
                        caps.weights.limits()
                    ))
                })?,
            };
            refuse_overwriting_foreign(provider, found, &state, desired.precondition)?;
            records.push(PlannedRecord { record, before: found, state, ttl });
        }
        Ok(Plan { target, before, desired, records })
    }

    /// Passes on the plan that overwrites unread records with blue's values: the manual rollback.
    pub(super) fn manual_rollback<T>(
        provider: &'static str,
        weights: &Weights,
        target: &Target,
        form: RecordForm,
        ttl: u32,
        write: impl FnOnce(&Plan<'_>) -> DnsResult<T>,
    ) -> DnsResult<T> {
        let unread = target.records().iter().map(|record| ObservedRecord {
            key: record.key.clone(),
            state: RecordState::Absent,
            ttl: None,
            siblings: Vec::new(),
            raw: serde_json::Value::Null,
        });
        let before = Observed::new(unread.collect(), None);
        let desired =
            Desired { form, ttl: Ttl::All(ttl), marker: None, precondition: Precondition::Overwrite };
        let caps = Capabilities { weights: weights.clone(), ..Capabilities::default() };
        write(&Plan::new(provider, &caps, target, &before, &desired)?)
    }

    /// Run and generation of the new marker, or of the one that the change removes.
    pub(super) fn id(&self) -> String {
        match (&self.desired.marker, &self.before.marker) {
            (Some(new), _) => format!("{}-{}", new.run, new.generation),
            (None, Some(old)) => format!("{}-{}-end", old.run, old.generation),
            (None, None) => format!("{}-end", self.before.version.0),
        }
    }

    pub(super) fn marker_text(&self) -> Option<String> {
        self.desired.marker.as_ref().map(Marker::to_text)
    }

    pub(super) fn into_change(self, request: Request) -> Change {
        let after = self.records.iter().map(|planned| ObservedRecord {
            key: planned.record.key.clone(),
            state: planned.state.clone(),
            ttl: Some(planned.ttl),
            siblings: planned.before.siblings.clone(),
            raw: planned.before.raw.clone(),
        });
        Change {
            id: self.id(),
            after: Observed::new(after.collect(), self.marker_text()),
            target: self.target.clone(),
            before: self.before.clone(),
            desired: self.desired.clone(),
            request,
        }
    }
}

fn check_generation(provider: &'static str, before: &Observed, desired: &Desired) -> DnsResult<()> {
    let Some(new) = &desired.marker else { return Ok(()) };
    if desired.precondition == Precondition::Unchanged && new.generation <= before.generation() {
        let message = format!(
            "the marker has generation {}, so a change of generation {} is out of date",
            before.generation(),
            new.generation
        );
        return Err(DnsError::new(provider, DnsErrorKind::Conflict, message));
    }
    Ok(())
}

fn refuse_overwriting_foreign(
    provider: &'static str,
    found: &ObservedRecord,
    new: &RecordState,
    precondition: Precondition,
) -> DnsResult<()> {
    let key = &found.key;
    let must_match = precondition == Precondition::Unchanged;
    let message = match (&found.state, new) {
        (_, RecordState::Absent) => format!("{key} does not exist at the provider"),
        (RecordState::Absent, _) if must_match => format!("{key} does not exist at the provider"),
        (_, RecordState::Foreign(text)) => differs(key, text),
        (RecordState::Foreign(text), _) if must_match => differs(key, text),
        _ => return Ok(()),
    };
    Err(DnsError::new(provider, DnsErrorKind::Conflict, message))
}

fn differs(key: &RecordKey, text: &str) -> String {
    format!("{key} is not what cutover.toml says: the provider has {text}")
}

fn split(weights: &Weights, share: Share) -> Option<RecordState> {
    let (blue, green) = share.weights();
    match weights {
        Weights::Whole { max_sum } if blue + green <= *max_sum => Some(RecordState::Split { blue, green }),
        Weights::Whole { .. } => None,
        Weights::SwitchOnly if share == Share::BLUE => Some(RecordState::Plain(Side::Blue)),
        Weights::SwitchOnly if share == Share::GREEN => Some(RecordState::Plain(Side::Green)),
        Weights::SwitchOnly => None,
    }
}

pub(super) fn refuse_aliases(provider: &'static str, target: &Target) -> DnsResult<()> {
    match target.records().iter().find(|record| record.has_alias()) {
        None => Ok(()),
        Some(record) => {
            let message = format!("{} has an alias, which this provider does not support", record.key);
            Err(DnsError::new(provider, DnsErrorKind::Unsupported, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::tests::record;
    use super::super::{OriginalTtl, RecordType, marker};
    use super::*;

    const WHOLE: Weights = Weights::Whole { max_sum: 256 };

    fn target() -> Target {
        let record = record(RecordType::A, &["192.0.2.1"], &["192.0.2.2"]);
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
        Marker { generation, ..marker::tests::marker("anna", "step") }
    }

    fn desired(form: RecordForm, ttl: Ttl, generation: u64, precondition: Precondition) -> Desired {
        Desired { form, ttl, marker: Some(marker(generation)), precondition }
    }

    fn change(before: &Observed, form: RecordForm, ttl: Ttl) -> Change {
        let (target, desired) = (target(), desired(form, ttl, 1, Precondition::Unchanged));
        let caps = Capabilities { weights: WHOLE, ..Capabilities::default() };
        let plan = Plan::new("test", &caps, &target, before, &desired).unwrap();
        plan.into_change(Request::Program { command: Vec::new(), input: serde_json::Value::Null })
    }

    fn result(weights: &Weights, before: &Observed, desired: &Desired) -> DnsResult<(RecordState, u32)> {
        let target = target();
        let caps = Capabilities { weights: weights.clone(), min_ttl: 5, ..Capabilities::default() };
        let plan = Plan::new("test", &caps, &target, before, desired)?;
        Ok((plan.records[0].state.clone(), plan.records[0].ttl))
    }

    fn kind(weights: &Weights, before: &Observed, desired: &Desired) -> DnsErrorKind {
        result(weights, before, desired).unwrap_err().kind
    }

    #[test]
    fn a_provider_without_weights_switches_or_refuses() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), None);
        let split_at = |share| desired(RecordForm::Split(share), Ttl::AsFound, 1, Precondition::Unchanged);
        let one_percent = Share::percent(1).unwrap();
        let switched = result(&Weights::SwitchOnly, &before, &split_at(Share::GREEN)).unwrap();
        assert_eq!(switched, (RecordState::Plain(Side::Green), 300));
        assert_eq!(kind(&Weights::SwitchOnly, &before, &split_at(one_percent)), DnsErrorKind::Unsupported);
        let split = result(&WHOLE, &before, &split_at(one_percent)).unwrap();
        assert_eq!(split, (RecordState::Split { blue: 99, green: 1 }, 300));
        let too_fine = split_at(Share::basis_points(1).unwrap());
        assert_eq!(kind(&WHOLE, &before, &too_fine), DnsErrorKind::Unsupported);
    }

    #[test]
    fn a_generation_is_written_once_except_by_a_rollback() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), Some(&marker(4)));
        let write =
            |generation, precondition| desired(RecordForm::AsFound, Ttl::AsFound, generation, precondition);
        assert_eq!(kind(&WHOLE, &before, &write(4, Precondition::Unchanged)), DnsErrorKind::Conflict);
        assert!(result(&WHOLE, &before, &write(5, Precondition::Unchanged)).is_ok());
        assert!(result(&WHOLE, &before, &write(2, Precondition::Overwrite)).is_ok());
    }

    #[test]
    fn foreign_records_are_overwritten_by_a_rollback_only() {
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
    fn each_record_gets_its_original_ttl() {
        let before = observed(RecordState::Plain(Side::Blue), Some(30), None);
        let with_ttl = |ttl| desired(RecordForm::AsFound, ttl, 1, Precondition::Unchanged);
        let each = |ttl| Ttl::Each(vec![OriginalTtl { key: key(), ttl }]);
        assert_eq!(result(&WHOLE, &before, &with_ttl(each(3600))).unwrap().1, 3600);
        assert_eq!(result(&WHOLE, &before, &with_ttl(Ttl::Each(Vec::new()))).unwrap().1, 30);
        assert_eq!(kind(&WHOLE, &before, &with_ttl(Ttl::All(1))), DnsErrorKind::Unsupported);
    }

    #[test]
    fn the_outcome_of_a_change_is_judged_by_the_records() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), None);
        let change = change(&before, RecordForm::Split(Share::GREEN), Ttl::All(30));
        assert_eq!(change.outcome(&before), WriteOutcome::NotApplied);
        // As the provider stores it, with other weights of the same proportion.
        let stored = observed(RecordState::Split { blue: 0, green: 100 }, Some(30), Some(&marker(1)));
        assert_eq!(change.outcome(&stored), WriteOutcome::Applied);
        let conflicting = observed(RecordState::Split { blue: 0, green: 100 }, Some(30), Some(&marker(2)));
        assert_eq!(change.outcome(&conflicting), WriteOutcome::Conflicting);
    }

    #[test]
    fn changes_in_journals_of_earlier_releases_are_read() {
        let before = observed(RecordState::Plain(Side::Blue), Some(300), None);
        let change = change(&before, RecordForm::AsFound, Ttl::AsFound);
        let written = serde_json::to_string(&change).unwrap();
        let older =
            written.replace("\"precondition\"", "\"guard\"").replace("\"siblings\"", "\"neighbours\"");
        assert_ne!(written, older);
        assert_eq!(serde_json::from_str::<Change>(&older).unwrap(), change);
    }
}
