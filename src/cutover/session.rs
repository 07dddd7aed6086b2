//! Where a run starts or continues. The provider's records decide; the journal adds details.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use uuid::Uuid;

use super::config::CutoverConfig;
use super::engine::RunIdentity;
use super::journal::{JournalEntry, JournalEvent, last_phase};
use super::machine::{CutoverRules, FinishChecks, Machine, rollback_reason};
use super::marker::{LOWERED, ROLLED_BACK, SKIPPED, STEP, describe_records, utc};
use super::state::{Activity, CutoverPhase, Goal, Pause};
use super::step::CutoverStep;
use crate::dns::{Capabilities, Marker, Observed, ObservedRecord, OriginalTtl, RecordState, Share, Side};
use crate::error::{Error, Result};

/// Who runs the command, and when.
#[derive(Debug, Clone)]
pub struct Operator {
    /// `user@host/pid`.
    pub owner: String,
    pub wall: DateTime<Utc>,
    pub rollback_command: String,
}

impl Operator {
    pub(crate) fn current(wall: DateTime<Utc>, rollback_command: String) -> Operator {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
        let user = user.map_or_else(|| nix::unistd::geteuid().to_string(), |user| user.name);
        Operator { owner: format!("{user}@{}/{}", host(), std::process::id()), wall, rollback_command }
    }
}

fn host() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Where an engine begins.
#[derive(Debug, Clone)]
pub struct InitialState {
    pub identity: RunIdentity,
    pub machine: Machine,
}

/// What is known before an engine begins.
#[derive(Debug, Clone, Copy)]
pub struct StartContext<'a> {
    pub config: &'a CutoverConfig,
    pub caps: &'a Capabilities,
    pub observed: &'a Observed,
    /// This machine's journal; it may be empty.
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
            return Err(Error::refused("this version cannot read the marker beside the records")
                .detail(text.clone())
                .remedy("Use the version of kongferry that wrote it."));
        }
        match self.observed.share() {
            Some(Share::BLUE) => {}
            Some(Share::GREEN) => {
                return Err(Error::refused("the records already send all traffic to green").remedy(
                    "There is nothing to move. If blue and green are swapped in cutover.toml, correct the file.",
                ));
            }
            Some(share) => return Err(split_without_marker(share)),
            None => return Err(records_differ(self.observed)),
        }
        let originals = self.originals();
        let mut machine = self.machine(&originals, Goal::LowerTtl, Share::BLUE);
        machine.old_ttl_remaining = max_ttl(&originals).saturating_sub(machine.rules.ttl);
        Ok(InitialState { identity: self.identity(Uuid::new_v4(), None, originals), machine })
    }

    /// Continues a run; `retry` starts over after a rollback.
    pub fn resume(&self, force: bool, retry: bool) -> Result<InitialState> {
        self.check_steps()?;
        let Some(marker) = &self.observed.marker else { return Err(self.no_cutover()) };
        self.check_lease(marker, force)?;
        let goal = match marker.state.as_str() {
            ROLLED_BACK if !retry => Goal::Rollback,
            ROLLED_BACK | LOWERED => Goal::LowerTtl,
            STEP => Goal::Step(self.step_of(marker).ok_or_else(|| no_such_step(marker.share))?),
            other => {
                return Err(Error::refused(format!(
                    "this version does not know the state \"{other}\" of the marker"
                ))
                .remedy("Use the version of kongferry that wrote it. A rollback works with any version."));
            }
        };
        let share = self.observed.share();
        let mut machine = self.machine(&marker.originals, goal, share.unwrap_or(marker.share));
        if retry && matches!(goal, Goal::Step(_)) {
            machine.phase = CutoverPhase::toward(goal);
        }
        let expired = (self.operator.wall - marker.written_at).to_std().unwrap_or_default();
        machine.old_ttl_remaining =
            max_ttl(&marker.originals).saturating_sub(machine.rules.ttl).saturating_sub(expired);
        if goal == Goal::Rollback {
            machine.rollback_reason = Some(recorded_rollback_reason(self.entries, marker));
        }
        self.restore_from_journal(&mut machine, marker);
        if share != Some(marker.share) && goal != Goal::Rollback {
            let reason = format!(
                "the records were changed: the provider has {} instead of {}",
                describe_records(self.observed),
                marker.share
            );
            machine.paused = Some((Pause { code: "changed".to_owned(), reason }, self.now));
        }
        Ok(InitialState { identity: self.identity_of(marker), machine })
    }

    /// Whether the records are plain records of blue without a marker: there is nothing to roll back.
    pub(crate) fn is_unmoved(&self) -> bool {
        let is_blue = |record: &ObservedRecord| record.state == RecordState::Plain(Side::Blue);
        self.observed.marker_text.is_none() && self.observed.records.iter().all(is_blue)
    }

    /// Sends all new resolutions back to blue, whatever the records and the lease are.
    pub fn rollback(&self, reason: &str) -> InitialState {
        let identity = match &self.observed.marker {
            Some(marker) => self.identity_of(marker),
            None => self.identity(Uuid::new_v4(), None, self.originals()),
        };
        let share = self.observed.share().unwrap_or(Share::GREEN);
        let mut machine = self.machine(&identity.originals, Goal::Rollback, share);
        let reason = rollback_reason(&self.operator.owner, reason);
        // After an earlier rollback its reason stays: it explains what happened.
        match self.observed.marker.as_ref().filter(|marker| marker.state == ROLLED_BACK) {
            Some(marker) => {
                machine.rollback_reason = Some(recorded_rollback_reason(self.entries, marker));
                machine.repeated_rollback_reason = Some(reason);
            }
            None => machine.rollback_reason = Some(reason),
        }
        InitialState { identity, machine }
    }

    /// Makes the records plain: green's at 100 %, blue's after a rollback.
    /// The former is refused while blue receives requests, unless `force`, and after changes by Admin API clients since
    /// the last run, unless `accept_drift`.
    pub fn finish(&self, force: bool, accept_drift: bool) -> Result<InitialState> {
        let Some(marker) = &self.observed.marker else { return Err(self.no_cutover()) };
        self.check_lease(marker, force)?;
        let has_drained = matches!(
            last_phase(self.entries, marker.run),
            Some(JournalEvent::Phase { now: CutoverPhase::Drained, .. })
        );
        let share = match self.observed.share() {
            Some(share @ Share::BLUE) if marker.state == ROLLED_BACK => share,
            Some(share @ Share::GREEN) if has_drained || force => share,
            Some(Share::GREEN) => {
                return Err(Error::refused(
                    "the journal on this machine does not show that traffic on blue has stopped",
                )
                .remedy("Run \"kongferry cutover resume\" to watch it, or finish anyway with --force."));
            }
            _ => {
                return Err(Error::refused(format!(
                    "the cutover has not ended: the records send {}",
                    describe_records(self.observed)
                ))
                .remedy(
                    "Run \"kongferry cutover resume\" to continue, or \"kongferry cutover rollback\" to go back.",
                ));
            }
        };
        let mut machine = self.machine(&marker.originals, Goal::Finish, share);
        // Drift and traffic on blue do not matter after a rollback.
        if share == Share::GREEN {
            machine.finish_checks = FinishChecks::of(&machine.rules, force, accept_drift);
        }
        if machine.finish_checks.any() {
            machine.phase = CutoverPhase::toward(Goal::Finish);
        }
        Ok(InitialState { identity: self.identity_of(marker), machine })
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
                .remedy("Run \"kongferry cutover start\"."));
        }
        let index = self.config.step_of(share).ok_or_else(|| no_such_step(share))?;
        let originals = self.originals();
        let machine = self.machine(&originals, Goal::Step(index), share);
        Ok(InitialState { identity: self.identity(Uuid::new_v4(), None, originals), machine })
    }

    /// Refuses while another process holds the lease.
    fn check_lease(&self, marker: &Marker, force: bool) -> Result<()> {
        if force || marker.owner == self.operator.owner {
            return Ok(());
        }
        let Some(lease) = active_lease(marker, self.operator.wall) else { return Ok(()) };
        let (owner, since) = (&marker.owner, utc(marker.written_at));
        Err(Error::refused(format!("{owner} has been running this cutover since {since}"))
            .detail(format!("{}, {} to green; {lease}", marker.state, marker.share))
            .remedy(
                "Ask the owner first. \"kongferry cutover unlock\" releases the lease; a rollback needs none.",
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

    fn identity_of(&self, marker: &Marker) -> RunIdentity {
        self.identity(marker.run, Some(marker), marker.originals.clone())
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

    /// A machine about to write, with `share` at the provider.
    fn machine(&self, originals: &[OriginalTtl], goal: Goal, share: Share) -> Machine {
        let phase = CutoverPhase::moving(goal, Activity::Applying);
        Machine::new(self.rules(originals), phase, share, self.now)
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
        machine.skipped = skipped_steps(self.entries, marker, &self.config.steps);
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
                .remedy("Run \"kongferry cutover start\"."),
            Some(Share::GREEN) => Error::refused("no cutover is under way: all traffic goes to green")
                .remedy("The cutover is finished; there is nothing to do."),
            Some(share) => split_without_marker(share),
            None => records_differ(self.observed),
        }
    }
}

/// Why a run was rolled back: in full from the journal, or shortened from the marker.
pub(crate) fn recorded_rollback_reason(entries: &[JournalEntry], marker: &Marker) -> String {
    match last_phase(entries, marker.run) {
        // This machine's journal may end before another machine rolled back.
        Some(JournalEvent::Phase { rollback_reason: Some(reason), .. })
            if reason.starts_with(&marker.note) =>
        {
            reason.clone()
        }
        _ if marker.note.is_empty() => format!("by {} at {}", marker.owner, utc(marker.written_at)),
        _ => marker.note.clone(),
    }
}

/// The steps that were skipped, from 0: from the marker, or else from the journal.
pub(crate) fn skipped_steps(entries: &[JournalEntry], marker: &Marker, steps: &[CutoverStep]) -> Vec<usize> {
    if marker.state != STEP {
        return Vec::new();
    }
    let numbers: Vec<&str> = marker.note.strip_prefix(SKIPPED).unwrap_or_default().split(',').collect();
    let marked: Vec<usize> =
        (0..steps.len()).filter(|index| numbers.contains(&(index + 1).to_string().as_str())).collect();
    match last_phase(entries, marker.run) {
        // This machine's journal may end before another machine skipped steps.
        Some(JournalEvent::Phase { skipped, .. }) if marked.is_empty() => skipped.clone(),
        _ => marked,
    }
}

fn split_without_marker(share: Share) -> Error {
    Error::refused(format!("the records send {share} to green without a marker")).remedy(
        "Run \"kongferry cutover adopt --from-provider\" to continue from there, or \"kongferry cutover rollback\" to go back.",
    )
}

fn no_such_step(share: Share) -> Error {
    Error::refused(format!("the records send {share} to green, and no step of cutover.toml has that share"))
        .remedy("Add a [[step]] with that share, or run \"kongferry cutover rollback\".")
}

fn already_under_way(marker: &Marker) -> Error {
    let (state, share) = (&marker.state, marker.share);
    Error::refused(format!(
        "a cutover is under way: {} started it at {}",
        marker.owner,
        utc(marker.started_at)
    ))
    .detail(format!("{state}, {share} to green, last written at {}", utc(marker.written_at)))
    .remedy(
        "Run \"kongferry cutover status\" to see it, then \"resume\" to continue or \"rollback\" to go back.",
    )
}

fn records_differ(observed: &Observed) -> Error {
    let mut error = Error::refused("the records at the provider are not those in cutover.toml");
    for record in &observed.records {
        let text = match &record.state {
            RecordState::Absent if record.siblings.is_empty() => "does not exist".to_owned(),
            RecordState::Absent => {
                let siblings = record.siblings.iter();
                let siblings: Vec<String> =
                    siblings.map(|sibling| format!("{} ({})", sibling.rtype, sibling.text)).collect();
                format!("does not exist, but the name has {}", siblings.join(", "))
            }
            RecordState::Foreign(text) => text.clone(),
            state => format!("{} to green", state.share().unwrap_or_default()),
        };
        error = error.detail(format!("{}: {text}", record.key));
    }
    error.remedy("Set name, type and blue in cutover.toml to the present records.")
}

fn max_ttl(originals: &[OriginalTtl]) -> Duration {
    Duration::from_secs(originals.iter().map(|original| u64::from(original.ttl)).max().unwrap_or(0))
}

/// The lease that another process may hold; none once it has expired or its process has ended.
pub(crate) fn active_lease(marker: &Marker, wall: DateTime<Utc>) -> Option<String> {
    let until = marker.lease_until.filter(|until| *until > wall && !has_exited(&marker.owner))?;
    Some(format!("{} holds the lease until {}", marker.owner, utc(until)))
}

/// A note about the previous owner, whose lease has expired but whose process may be running.
pub fn previous_owner(marker: &Marker, operator: &Operator) -> Option<String> {
    let is_over = marker.owner == operator.owner || has_exited(&marker.owner) || marker.state == ROLLED_BACK;
    (!is_over).then(|| {
        format!(
            "{} ran this cutover and last wrote at {}; its lease has expired. If that process is running, it stops when it reads the new marker.",
            marker.owner,
            utc(marker.written_at)
        )
    })
}

/// Whether the owner was a process of this machine that has ended.
fn has_exited(owner: &str) -> bool {
    let Some((account, process)) = owner.rsplit_once('/') else { return false };
    let is_here = account.rsplit_once('@').is_some_and(|(_, name)| name == host());
    let Ok(process) = process.parse::<i32>() else { return false };
    is_here && process > 0 && kill(Pid::from_raw(process), None) == Err(Errno::ESRCH)
}
