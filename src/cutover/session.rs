//! Starts and resumes runs. The provider's records decide; the journal adds details.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use uuid::Uuid;

use super::config::CutoverConfig;
use super::engine::RunIdentity;
use super::engine::write::{LOWERED, ROLLED_BACK, SKIPPED, STEP, describe_records};
use super::journal::{JournalEntry, JournalEvent, last_phase};
use super::machine::{CutoverRules, FinishChecks, Machine, rollback_reason};
use super::state::{Activity, CutoverPhase, Goal, Pause};
use super::step::Step;
use crate::dns::{Capabilities, Marker, Observed, ObservedRecord, OriginalTtl, RecordState, Share, Side};
use crate::error::{Error, Result};

/// Who is at work, and when.
#[derive(Debug, Clone)]
pub struct Operator {
    pub owner: String,
    pub wall: DateTime<Utc>,
    pub rollback_command: String,
}

impl Operator {
    pub fn current(wall: DateTime<Utc>, rollback_command: String) -> Operator {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
        Operator { owner: format!("{user}@{}/{}", host(), std::process::id()), wall, rollback_command }
    }
}

fn host() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[derive(Debug, Clone)]
pub struct InitialState {
    pub identity: RunIdentity,
    pub machine: Machine,
}

/// Everything that an opening is made of.
#[derive(Debug, Clone, Copy)]
pub struct StartContext<'a> {
    pub config: &'a CutoverConfig,
    pub caps: &'a Capabilities,
    pub observed: &'a Observed,
    /// The journal, as far as there is one.
    pub entries: &'a [JournalEntry],
    pub operator: &'a Operator,
    pub now: Duration,
}

impl StartContext<'_> {
    /// A new run: the records are plain records of blue, without a marker.
    pub fn start(&self) -> Result<InitialState> {
        self.check_steps()?;
        if let Some(marker) = &self.observed.marker {
            return Err(already_under_way(marker));
        }
        if let Some(text) = &self.observed.marker_text {
            return Err(
                Error::refused("this version cannot read the marker beside the records").detail(text.clone())
            );
        }
        match self.observed.share() {
            Some(Share::BLUE) => {}
            Some(Share::GREEN) => {
                return Err(Error::refused("the records send all traffic to green already").remedy(
                    "There is nothing to move; correct blue and green in cutover.toml if they are mixed up.",
                ));
            }
            Some(share) => {
                return Err(Error::refused(format!(
                    "the records send {share} to green without a marker"
                ))
                .remedy(
                    "\"kongferry cutover adopt --from-provider\" goes on from there, \"rollback\" goes back.",
                ));
            }
            None => return Err(records_differ(self.observed)),
        }
        let originals = self.originals();
        let old = max_ttl(&originals);
        let rules = self.rules(&originals);
        let phase = CutoverPhase::Moving { goal: Goal::LowerTtl, activity: Activity::Applying };
        let mut machine = Machine::new(rules, phase, Share::BLUE, self.now);
        machine.old_ttl_remaining = old.saturating_sub(machine.rules.ttl);
        Ok(InitialState { identity: self.identity(Uuid::new_v4(), None, originals), machine })
    }

    /// Goes on with a run. `retry` begins again what was rolled back.
    pub fn resume(&self, force: bool, retry: bool) -> Result<InitialState> {
        self.check_steps()?;
        let Some(marker) = &self.observed.marker else { return Err(self.no_cutover()) };
        self.check_lease(marker, force)?;
        let identity = self.identity(marker.run, Some(marker), marker.originals.clone());
        let rules = self.rules(&marker.originals);
        let share = self.observed.share().unwrap_or(marker.share);
        let old = max_ttl(&marker.originals).saturating_sub(rules.ttl);
        let waited = (self.operator.wall - marker.written_at).to_std().unwrap_or_default();
        let applying = |goal| CutoverPhase::Moving { goal, activity: Activity::Applying };
        let phase = match marker.state.as_str() {
            ROLLED_BACK if !retry => applying(Goal::Rollback),
            ROLLED_BACK | LOWERED => applying(Goal::LowerTtl),
            STEP => match self.step_of(marker) {
                Some(index) if retry => CutoverPhase::toward(Goal::Step(index)),
                Some(index) => applying(Goal::Step(index)),
                None => {
                    return Err(Error::refused(format!(
                        "the records send {} to green, which is no step of cutover.toml",
                        marker.share
                    ))
                    .remedy("Put a step with that share back into the file, or roll back."));
                }
            },
            other => {
                return Err(Error::refused(format!(
                    "the marker says \"{other}\", which this version does not know"
                ))
                .remedy("Use the version of kongferry that wrote it; rollback works in any case."));
            }
        };
        let mut machine = Machine::new(rules, phase, share, self.now);
        machine.old_ttl_remaining = old.saturating_sub(waited);
        if phase.is_going_back() {
            machine.rollback_reason = Some(recorded_rollback_reason(self.entries, marker));
        }
        self.restore_from_journal(&mut machine, marker);
        let as_marked = share == marker.share && self.observed.share().is_some();
        if !as_marked && !phase.is_going_back() {
            let reason = format!(
                "the records were changed: the provider has {}, and the marker says {}",
                describe_records(self.observed),
                marker.share
            );
            machine.paused = Some((Pause { code: "changed".to_owned(), reason }, self.now));
        }
        Ok(InitialState { identity, machine })
    }

    /// Whether the records are plain records of blue without a marker: there is nothing to roll back.
    pub fn is_unmoved(&self) -> bool {
        let plain = |record: &ObservedRecord| record.state == RecordState::Plain(Side::Blue);
        self.observed.marker_text.is_none() && self.observed.records.iter().all(plain)
    }

    /// All new resolutions back to blue, whatever the records and the lease are.
    pub fn rollback(&self, reason: &str) -> InitialState {
        let marker = self.observed.marker.as_ref();
        let originals = marker.map_or_else(|| self.originals(), |marker| marker.originals.clone());
        let run = marker.map_or_else(Uuid::new_v4, |marker| marker.run);
        let rules = self.rules(&originals);
        let share = self.observed.share().unwrap_or(Share::GREEN);
        let phase = CutoverPhase::Moving { goal: Goal::Rollback, activity: Activity::Applying };
        let mut machine = Machine::new(rules, phase, share, self.now);
        let why = rollback_reason(&self.operator.owner, reason);
        // After an earlier rollback its reason stays: it explains what happened.
        match marker.filter(|marker| marker.state == ROLLED_BACK) {
            Some(marker) => {
                machine.rollback_reason = Some(recorded_rollback_reason(self.entries, marker));
                machine.repeated_rollback_reason = Some(why);
            }
            None => machine.rollback_reason = Some(why),
        }
        InitialState { identity: self.identity(run, marker, originals), machine }
    }

    /// Makes the records plain: green's at 100 %, blue's after a rollback.
    /// The former is refused while blue receives requests, unless `force`, and after changes by Admin API clients since
    /// the last run, unless `accept_drift`.
    pub fn finish(&self, force: bool, accept_drift: bool) -> Result<InitialState> {
        let Some(marker) = &self.observed.marker else { return Err(self.no_cutover()) };
        self.check_lease(marker, force)?;
        let identity = self.identity(marker.run, Some(marker), marker.originals.clone());
        let share = self.observed.share();
        let drained = matches!(
            last_phase(self.entries, marker.run),
            Some(JournalEvent::Phase { now: CutoverPhase::Drained, .. })
        );
        match share {
            Some(Share::BLUE) if marker.state == ROLLED_BACK => {}
            Some(Share::GREEN) if drained || force => {}
            Some(Share::GREEN) => {
                return Err(Error::refused(
                    "the journal on this machine does not show that traffic on blue has stopped",
                )
                .remedy("\"kongferry cutover resume\" watches it; with --force it finishes anyway."));
            }
            _ => {
                return Err(Error::refused(format!(
                    "the records send {} to green: the cutover is not at its end",
                    describe_records(self.observed)
                ))
                .remedy(
                    "Go on with \"kongferry cutover resume\", or back with \"kongferry cutover rollback\".",
                ));
            }
        }
        let rules = self.rules(&marker.originals);
        // Drift and traffic on blue do not matter after a rollback.
        let looks = match share {
            Some(Share::GREEN) => FinishChecks::of(&rules, force, accept_drift),
            _ => FinishChecks::default(),
        };
        let activity = if looks.any() { Activity::Checking } else { Activity::Applying };
        let phase = CutoverPhase::Moving { goal: Goal::Finish, activity };
        let mut machine = Machine::new(rules, phase, share.unwrap_or_default(), self.now);
        machine.finish_checks = looks;
        Ok(InitialState { identity, machine })
    }

    /// Takes over records that are split without a marker: it was lost, or the split was made outside kongferry.
    pub fn adopt(&self) -> Result<InitialState> {
        self.check_steps()?;
        if self.observed.marker.is_some() {
            return self.resume(false, false);
        }
        let Some(share) = self.observed.share() else { return Err(records_differ(self.observed)) };
        if share == Share::BLUE {
            return Err(Error::refused("the records send all traffic to blue: there is nothing to adopt")
                .remedy("\"kongferry cutover start\" begins."));
        }
        let Some(index) = self.config.step_of(share) else {
            return Err(Error::refused(format!(
                "the records send {share} to green, which is no step of cutover.toml"
            ))
            .remedy("Put a step with that share into the file, or roll back."));
        };
        let originals = self.originals();
        let phase = CutoverPhase::Moving { goal: Goal::Step(index), activity: Activity::Applying };
        let machine = Machine::new(self.rules(&originals), phase, share, self.now);
        Ok(InitialState { identity: self.identity(Uuid::new_v4(), None, originals), machine })
    }

    /// Refuses while another process holds the lease.
    pub fn check_lease(&self, marker: &Marker, force: bool) -> Result<()> {
        if force || marker.owner == self.operator.owner {
            return Ok(());
        }
        let Some(held) = active_lease(marker, self.operator.wall) else { return Ok(()) };
        Err(Error::refused(format!(
            "{} has been running this cutover since {}",
            marker.owner,
            time(marker.written_at)
        ))
        .detail(format!("{}, {} to green; {held}", marker.state, marker.share))
        .remedy(
            "Ask the owner first. \"kongferry cutover unlock\" takes the lease away; rollback needs none.",
        ))
    }

    fn check_steps(&self) -> Result<()> {
        match self.config.steps.iter().find(|step| !self.caps.can_split(step.share)) {
            None => Ok(()),
            Some(step) => Err(Error::usage(format!(
                "the provider cannot send {} of new resolutions to green: {}",
                step.share,
                self.caps.weights.limits()
            ))
            .remedy("Change the [[step]] tables of cutover.toml.")),
        }
    }

    fn identity(&self, run: Uuid, marker: Option<&Marker>, originals: Vec<OriginalTtl>) -> RunIdentity {
        RunIdentity {
            run,
            owner: self.operator.owner.clone(),
            generation: marker.map_or(0, |marker| marker.generation),
            started_at: marker.map_or(self.operator.wall, |marker| marker.started_at),
            originals,
            final_ttl: self.config.settings.final_ttl,
            rollback_command: self.operator.rollback_command.clone(),
            queries: self.config.settings.query.count,
        }
    }

    fn rules(&self, originals: &[OriginalTtl]) -> CutoverRules {
        let mut rules = self.config.rules();
        let old = max_ttl(originals);
        // A TTL is lowered, never raised.
        if !old.is_zero() {
            rules.ttl = rules.ttl.min(old);
        }
        rules.ttl = rules.ttl.max(Duration::from_secs(u64::from(self.caps.min_ttl)));
        rules.settle = rules.ttl + self.caps.settle;
        rules
    }

    fn originals(&self) -> Vec<OriginalTtl> {
        let records = self.observed.records.iter();
        records.filter_map(|record| Some(OriginalTtl { key: record.key.clone(), ttl: record.ttl? })).collect()
    }

    fn step_of(&self, marker: &Marker) -> Option<usize> {
        let marked = usize::try_from(marker.step).ok();
        let fits =
            |index: &usize| self.config.steps.get(*index).is_some_and(|step| step.share == marker.share);
        marked.filter(fits).or_else(|| self.config.step_of(marker.share))
    }

    fn restore_from_journal(&self, machine: &mut Machine, marker: &Marker) {
        machine.skipped = skipped(self.entries, marker, &self.config.steps);
        let Some(JournalEvent::Phase { now, baselines, .. }) = last_phase(self.entries, marker.run) else {
            return;
        };
        machine.phase_after_settling =
            Some(*now).filter(|now| matches!(now, CutoverPhase::Draining | CutoverPhase::Drained));
        for (tally, baseline) in machine.tallies.iter_mut().zip(baselines) {
            tally.baseline = *baseline;
        }
    }

    fn no_cutover(&self) -> Error {
        match self.observed.share() {
            Some(Share::BLUE) => Error::refused("no cutover is under way: all traffic goes to blue")
                .remedy("\"kongferry cutover start\" begins one."),
            Some(Share::GREEN) => Error::refused("no cutover is under way: all traffic goes to green")
                .remedy("It is finished; there is nothing to do."),
            Some(share) => Error::refused(format!("the records send {share} to green without a marker"))
                .remedy(
                    "\"kongferry cutover adopt --from-provider\" goes on from there, \"rollback\" goes back.",
                ),
            None => records_differ(self.observed),
        }
    }
}

/// Why a run was rolled back: in full from the journal, or the beginning of it from the marker, which knows who it was
/// in any case.
pub fn recorded_rollback_reason(entries: &[JournalEntry], marker: &Marker) -> String {
    match last_phase(entries, marker.run) {
        // The journal of this machine may end before what another one did.
        Some(JournalEvent::Phase { rollback_reason: Some(why), .. }) if why.starts_with(&marker.note) => {
            why.clone()
        }
        _ if marker.note.is_empty() => format!("by {} at {}", marker.owner, time(marker.written_at)),
        _ => marker.note.clone(),
    }
}

/// The steps that were left out, from 0: from the journal, or from the marker, which tells any machine.
pub fn skipped(entries: &[JournalEntry], marker: &Marker, steps: &[Step]) -> Vec<usize> {
    if marker.state != STEP {
        return Vec::new();
    }
    let marked: Vec<&str> = marker.note.strip_prefix(SKIPPED).unwrap_or_default().split(',').collect();
    let of_marker = (0..steps.len())
        .filter(|index| marked.contains(&(index + 1).to_string().as_str()))
        .collect::<Vec<_>>();
    match last_phase(entries, marker.run) {
        // The journal of this machine may end before what another one did.
        Some(JournalEvent::Phase { skipped, .. }) if of_marker.is_empty() => skipped.clone(),
        _ => of_marker,
    }
}

/// The refusal of whoever comes second.
fn already_under_way(marker: &Marker) -> Error {
    Error::refused(format!(
        "a cutover is under way: {} began it at {}",
        marker.owner,
        time(marker.started_at)
    ))
    .detail(format!(
        "{}, {} to green, last written at {}",
        marker.state,
        marker.share,
        time(marker.written_at)
    ))
    .remedy("See \"kongferry cutover status\"; go on with \"resume\", back with \"rollback\".")
}

fn records_differ(observed: &Observed) -> Error {
    let mut error = Error::refused("the records at the provider are not what cutover.toml says");
    for record in &observed.records {
        let text = match &record.state {
            RecordState::Absent if record.siblings.is_empty() => format!("{}: does not exist", record.key),
            RecordState::Absent => {
                let there = record.siblings.iter().map(|one| format!("{} ({})", one.rtype, one.text));
                let there: Vec<String> = there.collect();
                format!("{}: does not exist; there is {}", record.key, there.join(", "))
            }
            RecordState::Foreign(text) => format!("{}: {text}", record.key),
            state => format!("{}: {} to green", record.key, state.share().unwrap_or_default()),
        };
        error = error.detail(text);
    }
    error.remedy("Make name, type and blue in cutover.toml what the records say now.")
}

fn max_ttl(originals: &[OriginalTtl]) -> Duration {
    Duration::from_secs(originals.iter().map(|one| u64::from(one.ttl)).max().unwrap_or(0))
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Who has the run now and until when, as the marker says; none where the lease is over or its process has ended.
pub fn active_lease(marker: &Marker, wall: DateTime<Utc>) -> Option<String> {
    let until = marker.lease_until.filter(|until| *until > wall && !has_exited(&marker.owner))?;
    Some(format!("{} has it until {}", marker.owner, time(until)))
}

/// A note about the previous owner, whose lease has expired but whose process may be running.
pub fn previous_owner(marker: &Marker, operator: &Operator) -> Option<String> {
    let gone = marker.owner == operator.owner || has_exited(&marker.owner) || marker.state == ROLLED_BACK;
    (!gone).then(|| {
        format!(
            "{} ran this cutover and last wrote at {}; its lease has expired. If that process is running, it stops when it reads the new marker.",
            marker.owner,
            time(marker.written_at)
        )
    })
}

/// Whether the owner was a process of this machine that has ended.
fn has_exited(owner: &str) -> bool {
    let Some((who, process)) = owner.rsplit_once('/') else { return false };
    let here = who.rsplit_once('@').is_some_and(|(_, at)| at == host());
    let Ok(process) = process.parse::<i32>() else { return false };
    here && process > 0 && kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}
